"""The data model of `schema.prisma`, as `prisma generate` understood it (its DMMF): the only list of fields and types.

`adapters.generator` writes it into the generated `prisma` package, so that it and both clients are of one generation.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

DATAMODEL_FILE: Final = "strangler_datamodel.json"

Kind = Literal["scalar", "enum", "object"]
ScalarType = Literal["String", "Int", "BigInt", "Float", "Decimal", "Boolean", "DateTime", "Json", "Bytes"]


class SchemaMissing(Exception):
    """The clients have not been generated: `npm run db:generate` in `prisma/` does it."""


@dataclass(frozen=True, slots=True)
class DefaultCall:
    """A computed default: `now`, `autoincrement`, `uuid`, `cuid`, `nanoid`, `ulid`, `dbgenerated` or `sequence`."""

    name: str
    args: tuple[object, ...] = ()


Default = str | int | float | bool | tuple[str | int | float | bool, ...] | DefaultCall | None
"""A constant as Prisma holds it (BigInt, Decimal, Json and Bytes constants are strings), a computed one, or none."""


@dataclass(frozen=True, slots=True)
class Relation:
    """`fields` of this model refer to `references` of `model`; both are empty on the side that holds no foreign key."""

    name: str
    model: str
    fields: tuple[str, ...] = ()
    references: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Field:
    """`type` names a ScalarType, an enum or, for `kind == "object"`, a model. `column` is its name in the table,
    `native` the name and the arguments of its `@db` type where it has one. `labels` pairs an enum's values with what the
    database calls them, where it calls any differently."""

    name: str
    column: str
    type: str
    kind: Kind
    is_list: bool = False
    required: bool = True
    unique: bool = False
    id: bool = False
    default: Default = None
    updated_at: bool = False
    native: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    relation: Relation | None = None

    @property
    def stored(self) -> bool:
        """It is a column, not a relation."""
        return self.kind != "object"


@dataclass(frozen=True, slots=True)
class Model:
    """`uniques` lists the field names of every unique constraint but the id's; `ids` the id's, one or several."""

    name: str
    table: str
    fields: Mapping[str, Field]
    ids: tuple[str, ...]
    uniques: tuple[tuple[str, ...], ...]

    @property
    def id(self) -> Field:
        """The only id field. Raises LookupError for a model whose id is compound."""
        if len(self.ids) != 1:
            raise LookupError(f"model {self.name} has no single id field, but ({', '.join(self.ids)})")
        return self.fields[self.ids[0]]

    @property
    def accessor(self) -> str:
        """The model's property on the JavaScript client: its name with the first letter in lower case."""
        return self.name[:1].lower() + self.name[1:]

    def stored(self) -> Iterator[Field]:
        return (f for f in self.fields.values() if f.stored)

    def parents(self) -> Iterator[Relation]:
        """The relations whose foreign key this model holds."""
        return (f.relation for f in self.fields.values() if f.relation and f.relation.fields)


@dataclass(frozen=True, slots=True)
class Schema:
    """`constraints` tells the fields of each unique and foreign-key constraint by its name in the database."""

    models: Mapping[str, Model]
    enums: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    constraints: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def parents_first(self) -> tuple[str, ...]:
        """Every model's name, each after the models that it refers to; a model's reference to itself does not count.

        Raises ValueError where models refer to each other in a circle.
        """
        graph = {m.name: {p.model for p in m.parents() if p.model != m.name} for m in self.models.values()}
        try:
            return tuple(TopologicalSorter(graph).static_order())
        except CycleError as error:
            raise ValueError(f"models refer to each other in a circle: {' -> '.join(error.args[1])}") from error


def load_schema(path: Path | None = None) -> Schema:
    """The schema of the generated client, or of the data model at `path`. Raises SchemaMissing when there is none."""
    source = path or _generated()
    try:
        text = source.read_bytes()
    except FileNotFoundError as error:
        raise SchemaMissing(f"{DATAMODEL_FILE} is not there: run `npm run db:generate` in prisma/") from error
    return parse_schema(json.loads(text))


def parse_schema(datamodel: Mapping[str, Any]) -> Schema:
    """From the `datamodel` part of a DMMF."""
    labels = {e["name"]: _labels(e) for e in datamodel["enums"]}
    models = {m["name"]: _model(m, labels) for m in datamodel["models"]}
    enums = {e["name"]: tuple(v["name"] for v in e["values"]) for e in datamodel["enums"]}
    constraints = dict(entry for model in models.values() for entry in _constraints(model))
    constraints |= {
        i["dbName"]: tuple(f["name"] for f in i["fields"]) for i in datamodel.get("indexes", ()) if i.get("dbName")
    }
    return Schema(MappingProxyType(models), MappingProxyType(enums), MappingProxyType(constraints))


def _generated() -> Path:
    spec = importlib.util.find_spec("prisma")
    if spec is None or spec.origin is None:
        raise SchemaMissing("the package `prisma` is not installed")
    return Path(spec.origin).parent / DATAMODEL_FILE


Labels = tuple[tuple[str, str], ...]


def _labels(enum: Mapping[str, Any]) -> Labels:
    if not any(value.get("dbName") for value in enum["values"]):
        return ()
    return tuple((value["name"], value.get("dbName") or value["name"]) for value in enum["values"])


def _model(raw: Mapping[str, Any], labels: Mapping[str, Labels]) -> Model:
    fields = {f["name"]: _field(f, labels) for f in raw["fields"]}
    compound = raw.get("primaryKey")
    ids = tuple(compound["fields"]) if compound else tuple(f.name for f in fields.values() if f.id)
    single = tuple((f.name,) for f in fields.values() if f.unique)
    return Model(
        name=raw["name"],
        table=raw["dbName"] or raw["name"],
        fields=MappingProxyType(fields),
        ids=ids,
        uniques=single + tuple(tuple(names) for names in raw["uniqueFields"]),
    )


def _constraints(model: Model) -> Iterator[tuple[str, tuple[str, ...]]]:
    """By the names that Prisma gives to constraints that the schema does not name."""

    def named(fields: tuple[str, ...], suffix: str) -> tuple[str, tuple[str, ...]]:
        return "_".join((model.table, *(model.fields[f].column for f in fields), suffix)), fields

    yield f"{model.table}_pkey", model.ids
    yield from (named(fields, "key") for fields in model.uniques)
    yield from (named(relation.fields, "fkey") for relation in model.parents())


def _field(raw: Mapping[str, Any], labels: Mapping[str, Labels]) -> Field:
    native = raw.get("nativeType")
    return Field(
        name=raw["name"],
        column=raw.get("dbName") or raw["name"],
        type=raw["type"],
        kind=raw["kind"],
        is_list=raw["isList"],
        required=raw["isRequired"],
        unique=raw["isUnique"],
        id=raw["isId"],
        default=_default(raw.get("default")),
        updated_at=raw.get("isUpdatedAt", False),
        native=(native[0], *native[1]) if native else (),
        labels=labels.get(raw["type"], ()) if raw["kind"] == "enum" else (),
        relation=_relation(raw),
    )


def _default(raw: Any) -> Default:
    if isinstance(raw, dict):
        return DefaultCall(raw["name"], tuple(raw["args"]))
    return tuple(raw) if isinstance(raw, list) else raw


def _relation(raw: Mapping[str, Any]) -> Relation | None:
    if raw["kind"] != "object":
        return None
    return Relation(raw["relationName"], raw["type"], tuple(raw["relationFromFields"]), tuple(raw["relationToFields"]))
