"""What the proxies share in the legacy database: flags, audit, replicas and leases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from bson import ObjectId
from motor.motor_asyncio import AsyncIOMotorDatabase
from pymongo import ASCENDING, ReturnDocument
from pymongo.errors import DuplicateKeyError
from pymongo.read_concern import ReadConcern

from adapters.mongo.calls import seconds_since, within
from adapters.mongo.sessions import Sessions
from adapters.side import Flag, Replica

Raw = dict[str, Any]

_MAJORITY: Final = ReadConcern("majority")


class MongoState:
    """Collections `strangler_flags`, `strangler_audit`, `strangler_replicas` and `strangler_leases`.

    Every call has the deadline `deadline` (seconds) and raises Unavailable. Times are the server's own.
    """

    def __init__(self, database: AsyncIOMotorDatabase[Raw], sessions: Sessions, deadline: float) -> None:
        # What a change of primary could still take back is no decision yet.
        self._flags = database["strangler_flags"].with_options(read_concern=_MAJORITY)
        self._audit = database["strangler_audit"]
        self._replicas = database["strangler_replicas"]
        self._leases = database["strangler_leases"]
        self._sessions = sessions
        self._deadline = deadline

    async def create_indexes(self) -> None:
        await self._audit.create_index([("entity", ASCENDING), ("at", ASCENDING)])

    async def flags(self) -> list[Flag]:
        saved = {"$ifNull": ["$savedAt", "$changedAt"]}
        async with within(self._deadline):
            rows = await self._flags.aggregate(
                [{"$set": {"age": seconds_since(saved)}}, {"$sort": {"_id": 1}}]
            ).to_list(None)
        return [_flag(row) for row in rows]

    async def save_flag(self, flag: Flag, *, after: int | None = None) -> bool:
        """As `State.save_flag` says. A decision is made now, by this server; a copy keeps the time of the decision."""
        fields = {
            "stage": flag.stage,
            "epoch": flag.epoch,
            "term": flag.term,
            "target": flag.target,
            "serve": flag.serve,
            "sample": flag.sample,
            "changedBy": flag.changed_by,
        }
        now = {"savedAt": True}
        if after is None and flag.changed_at is not None:
            fields["changedAt"] = flag.changed_at
        else:
            now["changedAt"] = True
        changes: Raw = {"$set": fields, "$currentDate": now}
        stored = {"$lt": flag.epoch} if after is None else after
        async with within(self._deadline, write=True):
            try:
                result = await self._flags.update_one(
                    {"_id": flag.entity, "epoch": stored}, changes, upsert=after is None or after == 0
                )
            except DuplicateKeyError:
                # The stored epoch is another one: nothing matches, and the insert meets the row that is there.
                return False
        return result.matched_count == 1 or result.upserted_id is not None

    async def audit(self, entry: Mapping[str, Any]) -> None:
        async with within(self._deadline, write=True):
            await self._audit.update_one(
                {"_id": ObjectId()}, {"$set": dict(entry), "$currentDate": {"at": True}}, upsert=True
            )

    async def beat(self, replica: Replica) -> None:
        """Record that the replica lives and what it has acknowledged; of this process, its sessions too, so that they are
        known again after somebody has taken it for dead."""
        seen = {entity: list(counts) for entity, counts in replica.seen.items()}
        changes: Raw = {"$set": {"epochs": dict(replica.epochs), "seen": seen}, "$currentDate": {"at": True}}
        if replica.id == self._sessions.owner:
            changes["$addToSet"] = {"sessions": {"$each": self._sessions.ids}}
        async with within(self._deadline, write=True):
            await self._replicas.update_one({"_id": replica.id}, changes, upsert=True)

    async def replicas(self) -> list[Replica]:
        """Those that have beaten: a command that only settles is none."""
        beaten: list[Raw] = [
            {"$match": {"at": {"$exists": True}}},
            {"$set": {"age": seconds_since("$at")}},
            {"$sort": {"_id": 1}},
        ]
        async with within(self._deadline):
            rows = await self._replicas.aggregate(beaten).to_list(None)
        return [_replica(row) for row in rows]

    async def forget_replica(self, id: str, *, silent: float = 0.0) -> None:
        """As `State.forget_replica` says. What it left open ends first, so that whoever comes after a failure here still
        knows of it; of this process nothing ends, it settles what it has."""
        async with within(self._deadline, write=True):
            if id != self._sessions.owner:
                row = await self._replicas.find_one({"_id": id}, {"sessions": 1})
                await self._sessions.kill((row or {}).get("sessions", ()))
            still = {"$expr": {"$gte": [seconds_since("$at"), silent]}} if silent else {}
            await self._replicas.delete_one({"_id": id, **still})

    async def lease(self, name: str, holder: str, seconds: float) -> bool:
        free = {"$or": [{"$eq": ["$holder", {"$literal": holder}]}, {"$lte": ["$until", "$$NOW"]}]}
        until = {"$add": ["$$NOW", int(seconds * 1000)]}
        # Where there is no lease yet its end is missing, which is less than any time.
        take: list[Raw] = [
            {"$set": {"free": free}},
            {
                "$set": {
                    "holder": {"$cond": ["$free", {"$literal": holder}, "$holder"]},
                    "until": {"$cond": ["$free", until, "$until"]},
                }
            },
            {"$unset": "free"},
        ]
        async with within(self._deadline, write=True):
            row = await self._leases.find_one_and_update(
                {"_id": name}, take, upsert=True, return_document=ReturnDocument.AFTER
            )
        return bool(row["holder"] == holder)

    async def release(self, name: str, holder: str) -> None:
        async with within(self._deadline, write=True):
            await self._leases.delete_one({"_id": name, "holder": holder})

    async def holder(self, name: str) -> str | None:
        current = {"_id": name, "$expr": {"$gt": ["$until", "$$NOW"]}}
        async with within(self._deadline):
            row = await self._leases.find_one(current)
        return str(row["holder"]) if row else None


def _flag(row: Raw) -> Flag:
    return Flag(
        entity=row["_id"],
        stage=row["stage"],
        epoch=row["epoch"],
        target=row["target"],
        serve=row["serve"],
        sample=row["sample"],
        term=row.get("term", 0),
        changed_at=row["changedAt"],
        changed_by=row["changedBy"],
        age=row["age"],
    )


def _replica(row: Raw) -> Replica:
    seen = {entity: (compared, differed) for entity, (compared, differed) in row.get("seen", {}).items()}
    return Replica(row["_id"], row.get("epochs", {}), seen, row["age"])
