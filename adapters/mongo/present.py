"""Which keys a legacy collection holds, whatever their documents are: from its index alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from motor.motor_asyncio import AsyncIOMotorCollection

from adapters.documents.mapping import Mapper
from adapters.mongo.calls import within
from adapters.mongo.collection import Raw
from adapters.side import Invalid, Key


async def present(
    rows: AsyncIOMotorCollection[Raw], mapper: Mapper, keys: Sequence[Key], *, deadline: float
) -> frozenset[Key]:
    """As `Store.present` says."""
    wanted: dict[Any, Key] = {}
    for key in keys:
        try:
            wanted[mapper.legacy_key(key)] = key
        except Invalid:
            continue  # a key that this side cannot have
    async with within(deadline):
        found = await rows.find({"_id": {"$in": list(wanted)}}, {"_id": 1}).to_list(None)
    return frozenset(wanted[raw["_id"]] for raw in found)
