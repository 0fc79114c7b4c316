"""How far long commands have come, in the legacy database."""

from __future__ import annotations

from typing import Any

from motor.motor_asyncio import AsyncIOMotorDatabase

from adapters.mongo.calls import seconds_since, within
from adapters.side import Run

Raw = dict[str, Any]


class MongoRuns:
    """The `Runs` in collection `strangler_runs`. Every call has the deadline `deadline` (seconds)."""

    def __init__(self, database: AsyncIOMotorDatabase[Raw], deadline: float) -> None:
        self._rows = database["strangler_runs"]
        self._deadline = deadline

    async def load(self, name: str, entity: str) -> Run | None:
        stages: list[Raw] = [{"$match": {"_id": _id(name, entity)}}, {"$set": {"age": seconds_since("$at")}}]
        async with within(self._deadline):
            rows = await self._rows.aggregate(stages).to_list(None)
        return _run(name, entity, rows[0]) if rows else None

    async def begin(self, run: Run) -> None:
        async with within(self._deadline, write=True):
            await self._rows.update_one({"_id": _id(run.name, run.entity)}, _changes(run), upsert=True)

    async def save(self, run: Run) -> bool:
        mine = {"_id": _id(run.name, run.entity), "holder": run.holder}
        async with within(self._deadline, write=True):
            result = await self._rows.update_one(mine, _changes(run))
        return result.matched_count == 1


def _id(name: str, entity: str) -> Raw:
    return {"n": name, "e": entity}


def _changes(run: Run) -> Raw:
    fields = {"holder": run.holder, "upto": run.upto, "done": run.done, "detail": dict(run.detail)}
    # Literally: what was found may hold names that begin with a dollar.
    return {"$set": fields, "$currentDate": {"at": True}}


def _run(name: str, entity: str, row: Raw) -> Run:
    return Run(name, entity, row["holder"], row["upto"], row["done"], row["detail"], float(row["age"]))
