"""The term of each entity in the legacy database: every settle passes its gate, and turning it shuts out the lower ones.

It stands in several documents of `strangler_fences`, the slots, so that settles of several replicas do not meet. A settle
*writes* one of them in its transaction: of that write and a turn's one has to wait for, or yield to, the other, which a
read from the transaction's snapshot would not.
"""

from __future__ import annotations

from typing import Any, Final

from motor.motor_asyncio import AsyncIOMotorClientSession, AsyncIOMotorCollection
from pymongo import UpdateOne

SLOTS: Final = 16

Raw = dict[str, Any]


def gate(entity: str, term: int, slot: int) -> UpdateOne:
    """Matches nothing where the entity is at another term."""
    return UpdateOne({"_id": _slot(entity, slot), "term": term}, {"$inc": {"settles": 1}})


async def known(fences: AsyncIOMotorCollection[Raw], entity: str, slot: int, session: AsyncIOMotorClientSession) -> int:
    """The term as the transaction sees it; -1 where there is none yet."""
    row = await fences.find_one({"_id": _slot(entity, slot)}, {"term": 1}, session=session)
    return int(row["term"]) if row else -1


async def turn(fences: AsyncIOMotorCollection[Raw], entity: str, term: int) -> None:
    """Raise every slot to the term. The server has each write wait for a settle that is past the gate there."""
    highest = [{"$set": {"term": {"$max": ["$term", term]}}}]
    raised = [UpdateOne({"_id": _slot(entity, slot)}, highest, upsert=True) for slot in range(SLOTS)]
    await fences.bulk_write(raised, ordered=False)


def _slot(entity: str, slot: int) -> Raw:
    return {"e": entity, "s": slot}
