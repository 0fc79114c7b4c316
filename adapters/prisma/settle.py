"""The transaction of a settle on PostgreSQL, as statements for one batch of the engine, and what a settle would not change.

Written in SQL because Prisma has no conditional upsert of many rows: three statements and one question, whatever the
number of keys, instead of a round trip for each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import orjson

from adapters.engine import Call
from adapters.side import Key
from config.schema import Model

TURN: Final = 'SELECT "strangler_turn"($1, $2::text::bigint) AS "turned"'
"""Raises an entity's term. It waits for the settles that have passed the gate, also where there is nothing to raise."""

_TEXT: Final = frozenset({(), ("Text",), ("VarChar",)})


class Statements:
    """The statements for one entity. Table and column names come from the schema and are quoted; values are bound."""

    def __init__(self, entity: str, model: Model) -> None:
        self._entity = entity
        table, key = quoted(model.table), quoted(model.id.column)
        columns = [quoted(field.column) for field in model.stored()]
        rest = [column for column in columns if column != key]
        mine = ", ".join(columns)
        # Fence on apply: only the settle whose token is the key's fence may write it. Each statement of a READ COMMITTED
        # transaction sees what others committed before it, so these see the fences as the first statement left them.
        fenced = (
            'EXISTS (SELECT 1 FROM "strangler_fence" f WHERE f."entity" = $1 AND f."token" = $2::text::bigint'
            ' AND f."key" = {key})'
        )
        every = f"t.{key} IN (SELECT json_array_elements_text($3::text::json)) AND {fenced.format(key=f't.{key}')}"
        # The gate comes first, as a condition that no row is looked at before: it locks the entity's term, or ends the
        # transaction. From there to the end nobody can turn the entity.
        self._fence = (
            'INSERT INTO "strangler_fence" AS f ("entity", "key", "token")'
            " SELECT $1, k, $2::text::bigint FROM json_array_elements_text($3::text::json) k"
            ' WHERE (SELECT "strangler_gate"($1, $4::text::bigint)) ORDER BY k'
            ' ON CONFLICT ("entity", "key") DO UPDATE SET "token" = excluded."token" WHERE f."token" < excluded."token"'
        )
        # Rows that are already what they should be are not written again.
        self._upsert = (
            f"INSERT INTO {table} AS t ({mine})"
            f" SELECT {mine} FROM json_populate_recordset(NULL::{table}, $3::text::json) r"
            f" WHERE {fenced.format(key=f'r.{key}')} ORDER BY r.{key}"
            f" ON CONFLICT ({key}) DO UPDATE SET {', '.join(f'{c} = excluded.{c}' for c in rest)}"
            f" WHERE ({', '.join(f't.{c}' for c in rest)}) IS DISTINCT FROM ({', '.join(f'excluded.{c}' for c in rest)})"
        )
        self._same = (
            f'SELECT r.{key} AS "key" FROM json_populate_recordset(NULL::{table}, $1::text::json) r'
            f" JOIN {table} t USING ({key})"
            f" WHERE ({', '.join(f't.{c}' for c in rest)}) IS NOT DISTINCT FROM ({', '.join(f'r.{c}' for c in rest)})"
        )
        self._delete = f"DELETE FROM {table} t WHERE {every}"
        parked = ", ".join(f"{column} = {value}" for column, value in dict(_parking(model)).items())
        self._park = parked and f"UPDATE {table} t SET {parked} WHERE {every}"
        self._passed = (
            'SELECT f."key" FROM "strangler_fence" f WHERE f."entity" = $1 AND f."token" = $2::text::bigint'
            ' AND f."key" IN (SELECT json_array_elements_text($3::text::json))'
        )

    @property
    def can_park(self) -> bool:
        return bool(self._park)

    def same(self, rows: Sequence[Mapping[str, Any]]) -> Call:
        """Lists, as rows with a `key`, those that are there already, column for column."""
        return Call.query_raw(self._same, orjson.dumps(rows).decode())

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
        """One transaction that writes `rows` (of the keys `present`) and deletes `absent`; its last answer lists, as rows
        with a `key`, those whose fence is this token. It fails as Stale where the entity is at another term.

        Unique values that move between these keys collide on the way, unless all of them are first let go: `park`.
        """
        every = [*present, *absent]
        calls = [Call.execute_raw(self._fence, *self._bound(token, every), str(term))]
        if park:
            calls.append(Call.execute_raw(self._park, *self._bound(token, every)))
        if rows:
            calls.append(Call.execute_raw(self._upsert, *self._bound(token, rows)))
        if absent:
            calls.append(Call.execute_raw(self._delete, *self._bound(token, absent)))
        calls.append(Call.query_raw(self._passed, *self._bound(token, every)))
        return calls

    def _bound(self, token: int, value: Sequence[Any]) -> tuple[str, str, str]:
        return self._entity, str(token), orjson.dumps(value).decode()


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


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
