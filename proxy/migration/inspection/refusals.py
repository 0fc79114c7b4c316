"""What a model cannot hold of the documents of a collection, as its own mapper says it: what a backfill would put into
quarantine. Where the mapper stops at the first fault, each field is asked for its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from adapters.documents.mapping import Mapper
from adapters.documents.paths import is_index
from adapters.side import Document, Invalid, Key
from config.model import Entity
from config.schema import Model, Schema

KEYS: Final = 5
REASONS: Final = 200
"""Different pairs of path and reason that are told apart."""

_REST: Final = ("…", "other reasons")


class Fault(NamedTuple):
    """Where, and why. Not the exception itself: that would keep alive all that was at hand where it was raised."""

    path: str
    reason: str


class Judge:
    """Says of each document whether the entity's model can hold it."""

    def __init__(self, entity: Entity, model: Model, schema: Schema) -> None:
        self.mapper = Mapper(entity, model, schema)
        self._alone = [Mapper(*part, schema) for part in _parts(entity, model)]

    def read(self, raw: Mapping[str, Any]) -> Document | list[Fault]:
        """The document; or everything that is wrong with it, first what a backfill would say."""
        try:
            return _held(self.mapper, raw)
        except Invalid as error:
            faults = {error.field: error.reason}
        for mapper in self._alone:
            try:
                _held(mapper, raw)
            except Invalid as error:
                faults.setdefault(error.field, error.reason)
        return [Fault(path, reason) for path, reason in faults.items()]


@dataclass(slots=True)
class Reason:
    """How many documents were refused for one reason, and the keys of the first of them."""

    count: int = 0
    keys: list[Key] = field(default_factory=list)


@dataclass(slots=True)
class Refusals:
    """By path (`*` for any index) and reason. `documents` counts each of them once."""

    documents: int = 0
    reasons: dict[tuple[str, str], Reason] = field(default_factory=dict)

    def add(self, key: Key, faults: list[Fault]) -> None:
        self.documents += 1
        for place in {(general(fault.path), fault.reason) for fault in faults}:
            known = place in self.reasons or len(self.reasons) < REASONS
            reason = self.reasons.setdefault(place if known else _REST, Reason())
            reason.count += 1
            if len(reason.keys) < KEYS:
                reason.keys.append(key)

    def most_first(self) -> list[tuple[tuple[str, str], Reason]]:
        return sorted(self.reasons.items(), key=lambda entry: (-entry[1].count, entry[0]))


def general(path: str) -> str:
    """With `*` for each index."""
    return ".".join("*" if is_index(step) else step for step in path.split("."))


def _held(mapper: Mapper, raw: Mapping[str, Any]) -> Document:
    document = mapper.from_legacy(raw)
    mapper.sql_row(document)
    return document


def _parts(entity: Entity, model: Model) -> Iterator[tuple[Entity, Model]]:
    """The model cut into one for each field, the id in all of them; fields that share a split string stay together."""
    groups: dict[object, list[str]] = {}
    for stored in model.stored():
        if stored.name not in model.ids:
            rule = entity.fields.get(stored.name)
            groups.setdefault(("split", rule.source) if rule and rule.split else stored.name, []).append(stored.name)
    for group in groups.values():
        names = {*model.ids, *group}
        fields = MappingProxyType({name: its for name, its in model.fields.items() if name in names})
        rules = {name: rule for name, rule in entity.fields.items() if name in names}
        yield entity.model_copy(update={"fields": rules}), replace(model, fields=fields)
