"""Which documents a legacy collection holds exactly as they should be."""

from __future__ import annotations

from collections.abc import Mapping

from bson.errors import InvalidBSON
from motor.motor_asyncio import AsyncIOMotorCollection

from adapters.documents.mapping import Mapper
from adapters.mongo.calls import within
from adapters.mongo.collection import Raw
from adapters.side import Document, Invalid, Key


async def same(
    rows: AsyncIOMotorCollection[Raw], mapper: Mapper, documents: Mapping[Key, Document], *, deadline: float
) -> frozenset[Key]:
    """As `Store.same` says: those that a settle would not change."""
    wanted = {}
    for key in documents:
        try:
            wanted[key] = mapper.legacy_key(key)
        except Invalid:
            continue  # a key that this side cannot have
    async with within(deadline):
        try:
            raws = await rows.find({"_id": {"$in": list(wanted.values())}}).to_list(None)
        except InvalidBSON:
            return frozenset()  # one of them cannot be read: whoever looks closely finds out which
    found = {mapper.key_of(raw): raw for raw in raws}
    return frozenset(key for key, raw in found.items() if _is_same(mapper, raw, documents[key]))


def _is_same(mapper: Mapper, raw: Raw, document: Document) -> bool:
    try:
        return mapper.legacy_changes(raw, document) == ({}, {})
    except Invalid:
        return False
