"""What the proxies share in the legacy database: flags, audit, replicas, positions in change streams."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bson import ObjectId
from motor.motor_asyncio import AsyncIOMotorDatabase
from pymongo import ASCENDING
from pymongo.errors import DuplicateKeyError

from adapters.mongo_calls import within
from adapters.side import Flag, Replica

Raw = dict[str, Any]


class MongoState:
    """Collections `strangler_flags`, `strangler_audit`, `strangler_replicas` and `strangler_positions`.

    Every call has the deadline `deadline` (seconds) and raises Unavailable. Times are the server's own.
    """

    def __init__(self, database: AsyncIOMotorDatabase[Raw], deadline: float) -> None:
        self._flags = database["strangler_flags"]
        self._audit = database["strangler_audit"]
        self._replicas = database["strangler_replicas"]
        self._positions = database["strangler_positions"]
        self._deadline = deadline

    async def create_indexes(self) -> None:
        await self._audit.create_index([("entity", ASCENDING), ("at", ASCENDING)])

    async def flags(self) -> list[Flag]:
        async with within(self._deadline):
            return [_flag(row) for row in await self._flags.find().to_list(None)]

    async def save_flag(self, flag: Flag) -> bool:
        """Write the flag where its epoch is higher than the stored one. False: somebody was first."""
        fields = {
            "stage": flag.stage,
            "epoch": flag.epoch,
            "target": flag.target,
            "serve": flag.serve,
            "sample": flag.sample,
            "changedBy": flag.changed_by,
        }
        changes: Raw = {"$set": fields}
        if flag.changed_at is None:
            changes["$currentDate"] = {"changedAt": True}
        else:
            fields["changedAt"] = flag.changed_at
        lower = {"_id": flag.entity, "epoch": {"$lt": flag.epoch}}
        async with within(self._deadline, write=True):
            try:
                await self._flags.update_one(lower, changes, upsert=True)
            except DuplicateKeyError:
                # Where the stored epoch is not lower nothing matches, and the insert meets the row that is there.
                return False
        return True

    async def audit(self, entry: Mapping[str, Any]) -> None:
        async with within(self._deadline, write=True):
            await self._audit.update_one(
                {"_id": ObjectId()}, {"$set": dict(entry), "$currentDate": {"at": True}}, upsert=True
            )

    async def beat(self, replica: Replica) -> None:
        """Record that the replica lives and what it has acknowledged."""
        async with within(self._deadline, write=True):
            await self._replicas.update_one(
                {"_id": replica.id},
                {"$set": {"epochs": dict(replica.epochs)}, "$currentDate": {"at": True}},
                upsert=True,
            )

    async def replicas(self) -> list[Replica]:
        age = {"$divide": [{"$subtract": ["$$NOW", "$at"]}, 1000]}
        async with within(self._deadline):
            rows = await self._replicas.aggregate([{"$set": {"age": age}}, {"$sort": {"_id": 1}}]).to_list(None)
        return [Replica(row["_id"], row["epochs"], max(0.0, row["age"])) for row in rows]

    async def forget_replica(self, id: str) -> None:
        async with within(self._deadline, write=True):
            await self._replicas.delete_one({"_id": id})

    async def save_position(self, name: str, token: Mapping[str, Any]) -> None:
        """Remember where the change stream of that name goes on after a restart."""
        async with within(self._deadline, write=True):
            await self._positions.update_one(
                {"_id": name}, {"$set": {"token": token}, "$currentDate": {"at": True}}, upsert=True
            )

    async def load_position(self, name: str) -> Mapping[str, Any] | None:
        async with within(self._deadline):
            row = await self._positions.find_one({"_id": name})
        return row["token"] if row else None


def _flag(row: Raw) -> Flag:
    return Flag(
        entity=row["_id"],
        stage=row["stage"],
        epoch=row["epoch"],
        target=row["target"],
        serve=row["serve"],
        sample=row["sample"],
        changed_at=row["changedAt"],
        changed_by=row["changedBy"],
    )
