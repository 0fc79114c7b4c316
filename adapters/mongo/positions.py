"""Where the change stream goes on after a crash, what has to be repaired, and whether anybody can follow it at all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from motor.motor_asyncio import AsyncIOMotorDatabase
from pymongo import ReturnDocument

from adapters.mongo.calls import within
from adapters.mongo.collection import Raw
from adapters.mongo.stream_events import Position

_FOLLOW: Final = {"_id": "follow"}


@dataclass(frozen=True, slots=True)
class Saved:
    """`position`: everything before it has settled; None: nobody has followed yet. `repair`: entities of which changes may
    have been missed before it. `lost`: why nobody can follow now, in a word."""

    position: Position | None = None
    repair: tuple[str, ...] = ()
    lost: str | None = None

    @property
    def records(self) -> bool:
        """Whether the stream is the record of what is written: from a position on nothing is missed."""
        return self.position is not None and self.lost is None


class Positions:
    """Collection `strangler_positions`, one document. Only the last who has claimed it can change it: the methods that
    say so return False to all others. Every call has the deadline `deadline` (seconds) and raises Unavailable."""

    def __init__(self, database: AsyncIOMotorDatabase[Raw], deadline: float) -> None:
        self._rows = database["strangler_positions"]
        self._deadline = deadline

    async def load(self) -> Saved:
        async with within(self._deadline):
            row = await self._rows.find_one(_FOLLOW)
        return _saved(row or {})

    async def claim(self, holder: str) -> Saved:
        """From here on only this one saves; what is there now."""
        async with within(self._deadline, write=True):
            row = await self._rows.find_one_and_update(
                _FOLLOW, {"$set": {"by": holder}}, upsert=True, return_document=ReturnDocument.AFTER
            )
        return _saved(row)

    async def save(self, holder: str, position: Position) -> bool:
        """Everything before this position has settled."""
        return await self._change(holder, {"$set": {"position": position}})

    async def restart(self, holder: str, position: Position, repair: Iterable[str]) -> bool:
        """Go on at another place; of these entities changes may have been missed."""
        return await self._change(
            holder,
            {"$set": {"position": position, "lost": None}, "$addToSet": {"repair": {"$each": sorted(repair)}}},
        )

    async def lose(self, holder: str, cause: str | None) -> bool:
        """Say why nobody can follow now; None: somebody can."""
        return await self._change(holder, {"$set": {"lost": cause}})

    async def damaged(self, holder: str, entity: str) -> bool:
        """The entity has to be repaired."""
        return await self._change(holder, {"$addToSet": {"repair": entity}})

    async def repaired(self, holder: str, entity: str) -> bool:
        return await self._change(holder, {"$pull": {"repair": entity}})

    async def _change(self, holder: str, change: Raw) -> bool:
        async with within(self._deadline, write=True):
            done = await self._rows.update_one({**_FOLLOW, "by": holder}, {**change, "$currentDate": {"at": True}})
        return bool(done.matched_count)


def _saved(row: Raw) -> Saved:
    return Saved(row.get("position"), tuple(row.get("repair", ())), row.get("lost"))
