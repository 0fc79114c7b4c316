"""What a change stream is asked for, and what its events mean: changes of keys, beacons, and our own settles, which are
nobody's news."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from bson import ObjectId, Timestamp

from adapters.documents.mapping import Mapper
from adapters.mongo.collection import Raw
from adapters.side import Invalid, Key

Kind = Literal["insert", "update", "replace", "delete", "drop", "rename", "unreadable"]
Position = Mapping[str, Any]
"""Where to go on: after a resume token, or from a time of the server on (`{"at": Timestamp}`)."""

BEACONS: Final = "strangler_beacons"
FENCES: Final = "strangler_fences"

_WRITES: Final = ("insert", "update", "replace", "delete")


@dataclass(frozen=True, slots=True)
class Change:
    """A key that changed at `clock` (the server's, comparable with `Held.clock`), and where to resume after it.

    No key: the whole collection changed (`drop`, `rename`), or a document whose `_id` is no key (`unreadable`).
    """

    entity: str
    key: Key | None
    clock: Timestamp
    kind: Kind
    position: Position


@dataclass(frozen=True, slots=True)
class Beacon:
    """Somebody, `asker`, asks whoever follows what has become of these entities' changes, up to this place."""

    asker: str
    id: ObjectId
    entities: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Passed:
    """A beacon of a barrier has come through."""

    id: ObjectId


def pipeline(collections: list[str]) -> list[Raw]:
    """Only what the meanings below need: no document travels but beacons, which are ours."""
    of_entity = {"ns.coll": {"$in": collections}, "operationType": {"$in": [*_WRITES, "drop", "rename"]}}
    renamed = {"to.coll": {"$in": collections}, "operationType": "rename"}
    # An answer is an update: only a beacon that is written whole asks for something.
    beacon = {"ns.coll": BEACONS, "operationType": {"$in": ["insert", "replace"]}}
    fence = {"ns.coll": FENCES, "operationType": {"$in": _WRITES}, "documentKey._id.k": {"$exists": True}}
    ended = {"operationType": {"$in": ["dropDatabase", "invalidate"]}}
    kept = dict.fromkeys(("operationType", "clusterTime", "documentKey", "ns", "to", "lsid", "txnNumber"), 1)
    lit = {"$cond": [{"$eq": ["$ns.coll", BEACONS]}, "$fullDocument", "$$REMOVE"]}
    return [{"$match": {"$or": [of_entity, renamed, beacon, fence, ended]}}, {"$project": {**kept, "beacon": lit}}]


Transaction = tuple[Any, int]


def transaction_of(event: Raw) -> Transaction | None:
    """Which transaction an event is part of; its events follow each other."""
    return (event["lsid"]["id"], event["txnNumber"]) if "txnNumber" in event else None


class Meanings:
    """Tells what events mean, in their order. A change in one transaction with the fence of its key, which comes first, is
    a settle of our own: it means nothing."""

    def __init__(self, entities: Mapping[str, tuple[str, Mapper]]) -> None:
        """`entities`: by the name of the collection, the entity and how its keys are written."""
        self._entities = entities
        self._settling: Transaction | None = None
        self._fenced: set[tuple[str, Key]] = set()

    def of(self, event: Raw) -> Iterator[Change | Beacon | Passed]:
        """Two for a rename of one followed collection to another. Not for what ends a stream."""
        kind, clock, position = event["operationType"], event["clusterTime"], event["_id"]
        place = event["ns"]["coll"]
        if place == FENCES:
            self._fence(event)
        elif place == BEACONS:
            yield _lit(event["beacon"])
        elif kind in ("drop", "rename"):
            names = {event[name]["coll"] for name in ("ns", "to") if name in event}
            for name in sorted(names & self._entities.keys()):
                yield Change(self._entities[name][0], None, clock, kind, position)
        else:
            entity, mapper = self._entities[place]
            try:
                key = mapper.key_of(event["documentKey"])
            except Invalid:
                yield Change(entity, None, clock, "unreadable", position)
            else:
                if not self._is_own(event, entity, key):
                    yield Change(entity, key, clock, kind, position)

    def _fence(self, event: Raw) -> None:
        transaction = transaction_of(event)
        if transaction != self._settling:
            self._settling = transaction
            self._fenced.clear()
        fence = event["documentKey"]["_id"]
        self._fenced.add((fence["e"], fence["k"]))

    def _is_own(self, event: Raw, entity: str, key: Key) -> bool:
        transaction = transaction_of(event)
        return transaction is not None and transaction == self._settling and (entity, key) in self._fenced


def _lit(beacon: Raw) -> Beacon | Passed:
    if beacon["entities"] is None:
        return Passed(beacon["beacon"])
    return Beacon(beacon["_id"], beacon["beacon"], tuple(beacon["entities"]))
