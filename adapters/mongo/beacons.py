"""Asking the one process that follows the change stream, from any other: a beacon is written, and comes to it in the order of
everything else that was written; its answer stands beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from bson import ObjectId
from motor.motor_asyncio import AsyncIOMotorDatabase
from pymongo import ASCENDING

from adapters.mongo.calls import within
from adapters.mongo.collection import Raw
from adapters.mongo.stream_events import BEACONS, Beacon
from adapters.side import SideError, Unavailable

FIRST_LOOK: Final = 0.01
LONGEST_LOOK: Final = 0.05
"""Seconds between two looks for an answer."""

AGAIN: Final = 1.0
"""Seconds after which a beacon is written again: who had heard it may have died before its answer."""

FORGOTTEN: Final = 24 * 3600
"""Seconds after which the server may forget a beacon."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of everything that was committed before the beacon: all of it has settled or been refused.

    `follower` is who says so; `changes` grows with every change that it hears of, by entity; `backlog` is what it still
    has to settle: refused keys, keys that changed since, keys of a repair.
    """

    follower: str
    changes: Mapping[str, int]
    backlog: Mapping[str, int]


@dataclass(slots=True)
class _Round:
    """Those who asked before the same beacon was written."""

    answer: asyncio.Future[Answer]
    entities: set[str] = field(default_factory=set)
    waiting: int = 0


class Beacons:
    """Collection `strangler_beacons`: one document for each who asks. Every call has the deadline `deadline` (seconds)."""

    def __init__(self, database: AsyncIOMotorDatabase[Raw], deadline: float) -> None:
        # Committed as the writes before it are: what the beacon has passed, the stream has passed.
        self._beacons = database[BEACONS]
        self._deadline = deadline
        self._rounds: dict[str, _Round] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}

    async def create_indexes(self) -> None:
        await self._beacons.create_index([("at", ASCENDING)], expireAfterSeconds=FORGOTTEN)

    async def ask(self, asker: str, entities: Sequence[str]) -> Answer:
        """Wait until whoever follows has answered for these entities. The caller brings the deadline: while nobody follows
        nobody answers. Raises Unavailable. Calls for one asker that come while it waits share the next beacon; no other
        process may use its name."""
        asked = self._rounds.get(asker)
        if asked is None:
            asked = self._rounds[asker] = _Round(asyncio.get_running_loop().create_future())
            # Its failure is told to whoever waits; nobody has to.
            asked.answer.add_done_callback(lambda future: future.cancelled() or future.exception())
        asked.entities.update(entities)
        asked.waiting += 1
        if asker not in self._asking:
            self._asking[asker] = asyncio.create_task(self._ask_rounds(asker), name=f"ask-{asker}")
        try:
            return await asyncio.shield(asked.answer)
        finally:
            asked.waiting -= 1

    async def answer(self, beacon: Beacon, answer: Answer) -> None:
        """Stand by the beacon, where it is still the asker's last. Raises Unavailable."""
        said = {
            "answered": beacon.id,
            "follower": answer.follower,
            "changes": dict(answer.changes),
            "backlog": dict(answer.backlog),
        }
        async with within(self._deadline, write=True):
            await self._beacons.update_one({"_id": beacon.asker, "beacon": beacon.id}, {"$set": said})

    async def _ask_rounds(self, asker: str) -> None:
        try:
            while asker in self._rounds:
                await self._ask(asker, self._rounds.pop(asker))
        finally:
            del self._asking[asker]

    async def _ask(self, asker: str, asked: _Round) -> None:
        """Until it is answered, or everybody has given up."""
        try:
            beacon, now = ObjectId(), asyncio.get_running_loop().time
            written, pause = 0.0, FIRST_LOOK
            while asked.waiting:
                if not written or now() - written > AGAIN:
                    written = now()
                    await self._light(asker, beacon, asked.entities)
                await asyncio.sleep(pause)
                pause = min(1.5 * pause, LONGEST_LOOK)
                answer = await self._read(asker, beacon)
                if answer is not None:
                    asked.answer.set_result(answer)
                    return
        except SideError as error:
            asked.answer.set_exception(error)
        finally:
            if not asked.answer.done():
                asked.answer.set_exception(Unavailable("nobody waits any more"))

    async def _light(self, asker: str, beacon: ObjectId, entities: set[str]) -> None:
        """Write it whole; again with the same id, so that an answer on its way still counts."""
        lit = {"beacon": beacon, "entities": sorted(entities), "at": datetime.now(UTC)}
        async with within(self._deadline, write=True):
            await self._beacons.replace_one({"_id": asker}, lit, upsert=True)

    async def _read(self, asker: str, beacon: ObjectId) -> Answer | None:
        async with within(self._deadline):
            row = await self._beacons.find_one({"_id": asker, "answered": beacon})
        return Answer(row["follower"], row["changes"], row["backlog"]) if row else None
