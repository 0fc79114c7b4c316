"""The transaction of a settle on PostgreSQL, as statements for one batch of the engine, and what a settle would not change.

Written in SQL because Prisma has no conditional upsert of many rows: three statements, whatever the number of keys, instead
of a round trip for each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import orjson

from adapters.engine import Call
from adapters.prisma.fence import passed, raise_fences
from adapters.prisma.quoting import quoted
from adapters.prisma.succession import Succession
from adapters.side import Key
from config.schema import Field, Model

TURN: Final = 'SELECT "strangler_turn"($1, $2::text::bigint) AS "turned"'
"""Raises an entity's term. It waits for the settles that have passed the gate, also where there is nothing to raise."""

_TEXT: Final = frozenset({(), ("Text",), ("VarChar",)})


class Statements:
    """The statements for one entity. Table and column names come from the schema and are quoted; values are bound."""

    def __init__(self, entity: str, model: Model, succession: Succession | None = None) -> None:
        self._entity = entity
        self._succession = succession
        table, key = quoted(model.table), quoted(model.id.column)
        columns = [quoted(field.column) for field in model.stored()]
        rest = [column for column in columns if column != key]
        mine = ", ".join(columns)

        def compared(row: str) -> str:
            return ", ".join(_comparable(field, row) for field in model.stored() if field is not model.id)

        # Fence on apply: only what has passed is written. Each statement of a READ COMMITTED transaction sees what others
        # committed before it, so these see what earlier settles of these keys have left.
        every = f"t.{key} IN (SELECT k FROM json_array_elements_text($1::text::json) k WHERE {passed('k')})"
        # Rows that are already what they should be are not written again.
        self._upsert = (
            f"INSERT INTO {table} AS t ({mine})"
            f" SELECT {mine} FROM json_populate_recordset(NULL::{table}, $1::text::json) r"
            f" WHERE {passed(f'r.{key}')} ORDER BY r.{key}"
            f" ON CONFLICT ({key}) DO UPDATE SET {', '.join(f'{c} = excluded.{c}' for c in rest)}"
            f" WHERE ({compared('t')}) IS DISTINCT FROM ({compared('excluded')})"
        )
        # One value, however many they are: the engine takes longer for each row of an answer than the database does.
        self.same = (
            f"SELECT coalesce(json_agg(r.{key}), '[]')::text AS same"
            f" FROM json_populate_recordset(NULL::{table}, $1::text::json) r"
            f" JOIN {table} t USING ({key})"
            f" WHERE ({compared('t')}) IS NOT DISTINCT FROM ({compared('r')})"
        )
        self._delete = f"DELETE FROM {table} t WHERE {every}"
        parked = ", ".join(f"{column} = {value}" for column, value in dict(_parking(model)).items())
        self._park = parked and f"UPDATE {table} t SET {parked} WHERE {every}"

    @property
    def can_park(self) -> bool:
        return bool(self._park)

    def settle(
        self,
        term: int,
        token: int,
        rows: Sequence[Mapping[str, Any]],
        present: Sequence[Key],
        absent: Sequence[Key],
        *,
        park: bool = False,
    ) -> list[Call]:
        """One transaction that writes `rows` (of the keys `present`) and deletes `absent`; its first answer tells which keys
        have passed (`passed_keys`). It fails as Stale where the entity is at another term.

        Unique values that move between these keys collide on the way, unless all of them are first let go: `park`.
        """
        every = [*present, *absent]
        calls = [raise_fences(self._entity, term, token, every)]
        if self._succession:
            calls += self._succession.calls(rows, absent)
        if park:
            calls.append(_with_json(self._park, every))
        if rows:
            calls.append(_with_json(self._upsert, rows))
        if absent:
            calls.append(_with_json(self._delete, absent))
        return calls


def _with_json(statement: str, value: Sequence[Any]) -> Call:
    return Call.execute_raw(statement, orjson.dumps(value).decode())


def _comparable(field: Field, row: str) -> str:
    """A column of which equal values are the same: json and xml know no equality, and to citext a is A, to floats -0 is 0."""
    column = f"{row}.{quoted(field.column)}"
    native = field.native[:1]
    if native == ("Json",):
        kind = "jsonb"
    elif field.type == "Float" or native in (("Xml",), ("Citext",)):
        kind = "text"
    else:
        return column
    return f"{column}::{kind}{'[]' if field.is_list else ''}"


def _parking(model: Model) -> Iterator[tuple[str, str]]:
    """For each unique constraint a column, and a value (in SQL) that no other row can have there. A constraint without a
    column that takes such a value has none."""
    for names in model.uniques:
        fields = [model.fields[name] for name in names]
        nothing = (field for field in fields if not field.required and not field.is_list)
        text = (f for f in fields if f.type == "String" and f.native[:1] in _TEXT and not f.is_list)
        if field := next(nothing, None):
            yield quoted(field.column), "NULL"
        elif field := next(text, None):
            yield quoted(field.column), f"chr(1) || t.{quoted(model.id.column)}"
