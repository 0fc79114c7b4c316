"""Documents that share what the model says is unique: all of them but one a backfill would put into quarantine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from adapters.documents.mapping import Mapper
from adapters.mongo.catalogue import LegacyIndex
from adapters.mongo.collection import key_or_text
from adapters.mongo.lookups import Duplicates, duplicates
from adapters.mongo.reading import Reading
from adapters.side import Key
from proxy.migration.inspection.questions import Questions
from proxy.migration.inspection.sources import Source


@dataclass(frozen=True, slots=True)
class Unique:
    """One unique constraint: how many `values` several documents have, how many `documents` have them, and the keys of a few
    that share one. `guard`: the index of the collection that lets there be none, so that nobody had to look."""

    fields: tuple[str, ...]
    guard: str | None = None
    values: int = 0
    documents: int = 0
    keys: tuple[tuple[Key, Key], ...] = ()


async def uniques(
    reading: Reading, source: Source, indexes: Sequence[LegacyIndex], questions: Questions
) -> list[Unique]:
    """Of the whole collection, whatever part of it is looked at otherwise."""
    found: list[Unique] = []
    for fields in source.model.uniques:
        places = {field: source.path(field) for field in fields}
        paths = [path for path in places.values() if path is not None]
        what = f"duplicates under {', '.join(fields)}"
        if len(paths) != len(fields):
            questions.skip(what, "what is stored is not the value itself")
            continue
        guard = next((index for index in indexes if index.guards and set(index.paths) <= set(paths)), None)
        if guard is not None:
            found.append(Unique(fields, guard.name))
            continue
        answer = await questions.ask(what, duplicates(reading, source.collection, paths))
        if answer is not None:
            found.append(_unique(fields, answer, source.mapper))
    return found


def _unique(fields: tuple[str, ...], found: Duplicates, mapper: Mapper) -> Unique:
    keys = tuple((_key(mapper, one), _key(mapper, other)) for one, other in found.ids)
    return Unique(fields, None, found.values, found.documents, keys)


def _key(mapper: Mapper, id: object) -> Key:
    return key_or_text(mapper, {"_id": id})


def unique_texts(source: Source) -> frozenset[str]:
    """Where the texts are that the model knows its documents by."""
    fields = [source.model.fields[names[0]] for names in source.model.uniques if len(names) == 1]
    paths = (source.path(field.name) for field in fields if field.type == "String")
    return frozenset(path for path in paths if path is not None)
