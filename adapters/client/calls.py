"""From the generated client's query builder to a call on the engine: the arguments are the JavaScript client's."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Final

from adapters.engine import Call, Invalid, JsonText
from config.schema import Schema

_ACTIONS: Final = {
    "create": "create",
    "create_many": "createMany",
    "update": "update",
    "update_many": "updateMany",
    "upsert": "upsert",
    "delete": "delete",
    "delete_many": "deleteMany",
    "find_unique": "findUnique",
    "find_unique_or_raise": "findUniqueOrThrow",
    "find_first": "findFirst",
    "find_first_or_raise": "findFirstOrThrow",
    "find_many": "findMany",
    "count": "aggregate",
    "group_by": "groupBy",
}
_RAW: Final = {"query_raw": "queryRaw", "query_first": "queryRaw", "execute_raw": "executeRaw"}
_AGGREGATES: Final = frozenset({"count", "group_by"})
_COUNTED: Final = frozenset({"create_many", "update_many", "delete_many"})


@dataclass(frozen=True, slots=True)
class Builder:
    """What `_make_query_builder` returns."""

    translator: Translator
    query: Any

    def build(self) -> Call:
        return self.translator.call(self.query)


class Translator:
    """For one generated package and the schema that it was generated from."""

    def __init__(self, package: str, schema: Schema) -> None:
        self.package = package
        self._schema = schema
        self._builders: Any = importlib.import_module(f"{package}._builder")
        self._fields: Any = importlib.import_module(f"{package}.fields")
        self._complete: dict[type, tuple[str, ...] | None] = {}

    def builder(self, client: Any, **query: Any) -> Builder:
        made = self._builders.QueryBuilder(
            **query,
            prisma_models=client._prisma_models,
            relational_field_mappings=client._relational_field_mappings,
        )
        return Builder(self, made)

    def call(self, query: Any) -> Call:
        """Raises the package's own BuilderErrors for a model or a relation that does not exist."""
        raw = _RAW.get(query.method)
        if raw is not None:
            params = self._plain(query.arguments["parameters"])
            return Call(None, raw, {"sql": query.arguments["query"], "params": params})
        # The client sends no argument that is None; deeper down None is null.
        args = {key: self._plain(value) for key, value in query.arguments.items() if value is not None}
        if query.method in _AGGREGATES:
            args |= _aggregates(query.root_selection)
        elif query.method not in _COUNTED:
            args |= self._selection(query, query.model, query.include)
        return Call(query.model.__prisma_model__, _ACTIONS[query.method], args)

    def _plain(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._plain(item) for key, item in value.items()}
        if isinstance(value, list | tuple | set):
            return [self._plain(item) for item in value]
        if isinstance(value, self._fields.Json):
            return self._json(value)
        if isinstance(value, self._fields.Base64):
            return value.decode()
        return value

    def _json(self, value: Any) -> JsonText:
        try:
            return JsonText(self._builders.dumps(value.data, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise Invalid(f"not a JSON value: {error}") from None

    def _selection(self, query: Any, model: type, include: dict[str, Any] | None) -> dict[str, Any]:
        """Everything a generated model holds by itself, exactly the fields that a model of the user's own has."""
        relations = {
            name: self._relation(query, query.get_relational_model(model, name), options)
            for name, options in (include or {}).items()
            if options is not False
        }
        fields = self._partial(query, model)
        if fields is not None:
            return {"select": dict.fromkeys(fields, True) | relations}
        return {"include": relations} if relations else {}

    def _relation(self, query: Any, model: type, options: Any) -> Any:
        if options is not True and not isinstance(options, dict):
            raise TypeError(f"Expected `bool` or `dict` include value but got {type(options)} instead.")
        given = {} if options is True else dict(options)
        nested = self._selection(query, model, given.pop("include", None))
        args = {key: self._plain(value) for key, value in given.items() if value is not None}
        return args | nested or True

    def _partial(self, query: Any, model: Any) -> tuple[str, ...] | None:
        """The fields of a model that has not all of them; None for one that has."""
        if model not in self._complete:
            fields = tuple(query.get_default_fields(model))
            stored = {field.name for field in self._schema.models[model.__prisma_model__].stored()}
            self._complete[model] = None if set(fields) == stored else fields
        return self._complete[model]


def _aggregates(selection: list[str]) -> dict[str, Any]:
    """`_count { _all title }` as {"_count": {"_all": True, "title": True}}; plain names are `by`'s, given already."""
    chosen: dict[str, Any] = {}
    for part in selection:
        name, brace, fields = part.partition(" { ")
        if brace:
            chosen[name] = dict.fromkeys(fields.rstrip("} ").split(), True)
    return chosen
