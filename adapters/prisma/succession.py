"""A record that goes on under another key, of an entity with several sources: what refers to it goes along."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from adapters.engine import Call
from adapters.prisma.fence import passed
from adapters.prisma.quoting import quoted
from adapters.side import Key
from config.schema import Model, Schema


class Succession:
    """`natural` is the field that makes two rows one record, whatever their keys."""

    def __init__(self, model: Model, natural: str, schema: Schema) -> None:
        table, key, known = quoted(model.table), quoted(model.id.column), quoted(model.fields[natural].column)
        # `o` is a row that is about to go, `r` the one that has its natural key from now on.
        succeeds = (
            f"json_populate_recordset(NULL::{table}, $1::text::json) r"
            f" WHERE o.{known} = r.{known} AND o.{key} IN (SELECT json_array_elements_text($2::text::json))"
            f" AND {passed(f'o.{key}')} AND {passed(f'r.{key}')}"
        )
        there = f"EXISTS (SELECT 1 FROM {table} x WHERE x.{key} = r.{key})"
        # Where there is no such row yet it only changes its key (ON UPDATE CASCADE); otherwise what refers to it changes.
        self._statements = [
            f"UPDATE {table} o SET {key} = r.{key} FROM {succeeds} AND NOT {there}",
            *(
                f"UPDATE {quoted(child)} c SET {quoted(column)} = r.{key} FROM {table} o, {succeeds}"
                f" AND c.{quoted(column)} = o.{key} AND {there}"
                for child, column in _references(model, schema)
            ),
        ]

    def calls(self, rows: Sequence[Any], absent: Sequence[Key]) -> list[Call]:
        """For a settle's transaction, after its fences are raised and before anything of it is written."""
        if not rows or not absent:
            return []
        bound = (orjson.dumps(rows).decode(), orjson.dumps(absent).decode())
        return [Call.execute_raw(statement, *bound) for statement in self._statements]


def _references(model: Model, schema: Schema) -> list[tuple[str, str]]:
    """The tables and columns that refer to the model by its id."""
    return [
        (child.table, child.fields[relation.fields[0]].column)
        for child in schema.models.values()
        for relation in child.parents()
        if relation.model == model.name and relation.references == model.ids
    ]
