"""What a legacy database says it has: its collections, how many documents they hold, their indexes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from adapters.mongo.calls import within
from adapters.mongo.reading import COMMENT, Reading

Kind = Literal["collection", "view", "timeseries"]


@dataclass(frozen=True, slots=True)
class Listed:
    """A collection of the application. `ordered`: it has an index on `_id`, by which it can be walked."""

    name: str
    kind: Kind = "collection"
    capped: bool = False
    ordered: bool = True


@dataclass(frozen=True, slots=True)
class LegacyIndex:
    """`keys` are pairs of path and direction or kind (1, -1, text, hashed, 2dsphere …). `ttl` is in seconds; `collation`
    is a locale; `partial`: documents are only in it where a condition holds."""

    name: str
    keys: tuple[tuple[str, int | str], ...]
    unique: bool = False
    sparse: bool = False
    partial: bool = False
    hidden: bool = False
    ttl: float | None = None
    collation: str | None = None

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(path for path, _ in self.keys)

    @property
    def guards(self) -> bool:
        """No two documents have the same values there, unless one of the values is missing or null. A collation only makes
        more of them the same."""
        return self.unique and not self.partial


async def listed(reading: Reading) -> list[Listed]:
    """By name. The proxy's own collections and the server's are not among them. Raises Unavailable."""
    async with within(reading.seconds):
        cursor = await reading.database.list_collections(comment=COMMENT)
        found = [_listed(entry) async for entry in cursor]
    return sorted(
        (one for one in found if not one.name.startswith(("strangler_", "system."))), key=lambda one: one.name
    )


async def size(reading: Reading, name: str) -> int:
    """How many documents, by the collection's own account: exact but after a crash. Raises Unavailable."""
    async with within(reading.seconds):
        return int(await reading.database[name].estimated_document_count(comment=COMMENT))


async def indexes(reading: Reading, collection: Listed) -> list[LegacyIndex]:
    """A view has none. Raises Unavailable."""
    if collection.kind == "view":
        return []
    async with within(reading.seconds):
        cursor = reading.database[collection.name].list_indexes(comment=COMMENT)
        return [_index(entry) async for entry in cursor]


def _listed(entry: Mapping[str, Any]) -> Listed:
    options: Mapping[str, Any] = entry.get("options", {})
    kind: Kind = entry["type"] if entry["type"] in ("view", "timeseries") else "collection"
    ordered = kind == "collection" and options.get("autoIndexId") is not False
    return Listed(entry["name"], kind, bool(options.get("capped")), ordered)


def _index(entry: Mapping[str, Any]) -> LegacyIndex:
    keys: list[tuple[str, int | str]] = []
    for path, kind in entry["key"].items():
        if path == "_fts":  # a text index tells the fields apart from its key
            keys += [(field, "text") for field in entry.get("weights", {})]
        elif path != "_ftsx":
            keys.append((path, kind if isinstance(kind, str) else int(kind)))
    return LegacyIndex(
        name=entry["name"],
        keys=tuple(keys),
        unique=bool(entry.get("unique")) or [path for path, _ in keys] == ["_id"],
        sparse=bool(entry.get("sparse")),
        partial="partialFilterExpression" in entry,
        hidden=bool(entry.get("hidden")),
        ttl=float(entry["expireAfterSeconds"]) if "expireAfterSeconds" in entry else None,
        collation=entry["collation"]["locale"] if "collation" in entry else None,
    )
