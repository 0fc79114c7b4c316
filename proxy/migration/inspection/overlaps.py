"""Overlap between collections: texts that are natural keys (a wallet, a user's name) and are found in another collection
too, so that two collections may well speak of the same things."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from adapters.mongo.catalogue import LegacyIndex, Listed
from adapters.mongo.lookups import held, some
from adapters.mongo.reading import Reading
from proxy.migration.inspection.profile import Profile
from proxy.migration.inspection.questions import Questions

VALUES: Final = 300
"""Values of a path that are looked for elsewhere."""

PAIRS: Final = 40
_SMALL: Final = 50_000
"""Documents of a collection that is searched without an index."""

_SHORT: Final = 256
"""Characters of a text that can be a key."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A collection of the database: its size where that is known, its indexes, and the paths of its texts that a model says
    are unique."""

    listed: Listed
    size: int | None
    indexes: tuple[LegacyIndex, ...] = ()
    unique: frozenset[str] = frozenset()

    @property
    def natural(self) -> frozenset[str]:
        """What a document could be known by, the `_id` apart."""
        own = (index.paths[0] for index in self.indexes if index.guards and len(index.paths) == 1)
        return frozenset({*own, *self.unique} - {"_id"})

    def can_search(self, path: str) -> bool:
        usable = (i for i in self.indexes if i.collation is None and not (i.partial or i.hidden))
        small = self.size is not None and self.size <= _SMALL
        return small or any(index.paths[0] == path for index in usable)


@dataclass(frozen=True, slots=True)
class Overlap:
    """Of `asked` different values at `path`, `found` are at `other` in `collection`."""

    path: str
    collection: str
    other: str
    asked: int
    found: int


async def overlaps(
    reading: Reading, here: Neighbour, profile: Profile, all: Mapping[str, Neighbour], questions: Questions
) -> list[Overlap]:
    """Those that were asked about, the greatest share first."""
    values: dict[str, Sequence[str]] = {}
    result: list[Overlap] = []
    pairs = list(dict.fromkeys(_pairs(here, profile, all)))
    for path, other, its in pairs[:PAIRS]:
        if path not in values:
            what = f"values of {path}"
            values[path] = await questions.ask(what, some(reading, here.listed.name, path, "string", VALUES)) or []
        if not values[path]:
            continue
        what = f"values of {path} in {other}.{its}"
        found = await questions.ask(what, held(reading, other, its, values[path]))
        if found is not None:
            result.append(Overlap(path, other, its, len(values[path]), len(found)))
    if len(pairs) > PAIRS:
        questions.skip("more overlaps", f"{len(pairs)} pairs of paths, of which {PAIRS} were asked about")
    return sorted(result, key=lambda one: (-one.found / one.asked, one.path, one.collection))


def _pairs(here: Neighbour, profile: Profile, all: Mapping[str, Neighbour]) -> Iterator[tuple[str, str, str]]:
    """A path of ours, another collection and a path there: worth asking about, and cheap to ask."""
    texts = set(_texts(profile))
    for name, other in all.items():
        if name == here.listed.name:
            continue
        for path in sorted(texts):
            leaf = path.rsplit(".", 1)[-1].lower()
            for its in sorted(other.natural):
                if (path in here.natural or its.rsplit(".", 1)[-1].lower() == leaf) and other.can_search(its):
                    yield path, name, its
            if path in here.natural and other.can_search(path):
                yield path, name, path


def _texts(profile: Profile) -> Iterator[str]:
    """Paths, outside of arrays, of texts that differ and are short enough to be keys."""
    for node, _ in profile.paths():
        steps = node.path.split(".")
        single = bool(node.types["string"]) and not {"*", "_id"} & set(steps)
        differ = node.constants is None or len(node.constants) > 1
        if single and differ and node.lengths.high <= _SHORT:
            yield node.path
