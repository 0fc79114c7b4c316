"""Several legacy documents of one record, to one canonical document and back: `config.check_sources` says by which rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from adapters.documents.mapping import Mapper
from adapters.documents.values import alike
from adapters.side import Document, Invalid, Key
from config.model import Entity
from config.schema import Model, Schema

Raw = Mapping[str, Any]
Raws = Mapping[str, Raw]
"""The documents of one record by the collection that each is in."""

_CHOICES: Final[Mapping[str, Callable[[Iterable[Any]], Any]]] = {"earliest": min, "latest": max}


@dataclass(frozen=True, slots=True)
class Source:
    """One of the collections. `path` is where its documents have the natural key, which is the field `by`."""

    name: str
    mapper: Mapper
    by: str
    path: str

    def key(self, raw: Raw) -> Key:
        """Raises Invalid."""
        return self.mapper.key_of(raw)

    def natural(self, raw: Raw) -> str | None:
        """The natural key, as Prisma has it. Raises Invalid, which names the collection too."""
        natural: str | None = self._named(lambda: self.mapper.legacy_value(raw, self.by))
        return natural

    def value(self, raw: Raw, field: str) -> Any:
        """Raises Invalid, which names the collection too."""
        return self._named(lambda: self.mapper.legacy_value(raw, field))

    def stored(self, natural: str) -> Any:
        """The BSON value of a natural key. Raises Invalid for one that this collection cannot have."""
        return self.mapper.legacy_where({self.by: natural})[self.path]["$eq"]

    def _named(self, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except Invalid as error:
            raise Invalid(f"{self.name}.{error.field}", error.reason) from error


@dataclass(frozen=True, slots=True)
class _Field:
    """Where a field's value may be, the first choice first; `choose` picks one of all of them."""

    name: str
    sources: tuple[Source, ...]
    choose: Callable[[Iterable[Any]], Any] | None


class Merging:
    """Of one entity. `sources` in the order of their precedence; the record's key is the first one's that has a document.

    Raises RuleError, on construction, for rules that cannot be followed.
    """

    def __init__(self, entity: Entity, model: Model, schema: Schema) -> None:
        self.mapper = Mapper(entity, model, schema)
        self.by = entity.also[0].by
        self.sources = tuple(_sources(entity, model, schema))
        self._fields = [
            _Field(field.name, *_precedence(field.name, entity, self.sources))
            for field in model.stored()
            if field.name != self.mapper.id
        ]

    def source(self, collection: str) -> Source:
        return next(source for source in self.sources if source.name == collection)

    def merge(self, raws: Raws, key: Key) -> Document:
        """Raises Invalid for a value that counts and cannot be what its field needs, or is required and nowhere."""
        document: Document = {self.mapper.id: key}
        for field in self._fields:
            document[field.name] = self._value(field, raws)
        return document

    def differing(self, raws: Raws, document: Document) -> frozenset[str]:
        """The fields that are not as in the document, once merged."""
        return frozenset(field.name for field in self._fields if not self._is(field, raws, document.get(field.name)))

    def _is(self, field: _Field, raws: Raws, wanted: Any) -> bool:
        try:
            present = self._value(field, raws)
        except Invalid:
            return False  # whatever it is, it is not what it should be
        return alike(present, [] if wanted is None and isinstance(present, list) else wanted)

    def _value(self, field: _Field, raws: Raws) -> Any:
        """The merged value. Of the sources after the one that counts nothing is read."""
        read = (source.value(raws[source.name], field.name) for source in field.sources if source.name in raws)
        values = (value for value in read if value is not None and value != [])
        first = next(values, None)
        if first is None:
            return self.mapper.nothing(field.name)
        return field.choose([first, *values]) if field.choose else first


def _sources(entity: Entity, model: Model, schema: Schema) -> Iterable[Source]:
    yield _source(entity, entity.also[0].by, model, schema)
    for also in entity.also:
        alone = Entity(collection=also.collection, model=entity.model, fields=also.fields, lacks=also.lacks)
        yield _source(alone, also.by, model, schema)


def _source(entity: Entity, by: str, model: Model, schema: Schema) -> Source:
    mapper = Mapper(entity, model, schema)
    return Source(entity.collection, mapper, by, mapper.path_of(by))


def _precedence(
    name: str, entity: Entity, sources: Sequence[Source]
) -> tuple[tuple[Source, ...], Callable[[Iterable[Any]], Any] | None]:
    rule = entity.merge.get(name, [])
    holding = [source for source in sources if source.mapper.holds(name)]
    if isinstance(rule, str):
        return tuple(holding), _CHOICES[rule]
    return tuple(
        sorted(holding, key=lambda source: rule.index(source.name) if source.name in rule else len(rule))
    ), None
