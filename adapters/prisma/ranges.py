"""Walking a table in the order of its keys, a range at a time, and telling which keys it holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import orjson

from adapters.engine import Engine
from adapters.prisma.errors import translated
from adapters.prisma.quoting import quoted
from adapters.side import Key, Range
from config.schema import Field, Model

_UNPACKED: Final = 4
"""How many times larger a Json value or a list is when read than on disk, about: there it is compressed."""


class Ranges:
    """For one entity. The place is the last key: text that sorts as this database sorts it, and nowhere else."""

    def __init__(self, engine: Engine, model: Model) -> None:
        self._engine = engine
        key, table = quoted(model.id.column), quoted(model.table)
        self._keys = _in_order(f't.{key} AS "key"', table, key)
        self._present = (
            f'SELECT t.{key} AS "key" FROM {table} t WHERE t.{key} IN (SELECT json_array_elements_text($1::text::json))'
        )
        sizes = " + ".join(f"coalesce({_size(field)}, 0)" for field in model.stored())
        self._sized = _in_order(f't.{key} AS "key", ({sizes})::bigint AS "size"', table, key)

    async def __call__(self, after: str | None, *, most: int, size: int | None) -> Range | None:
        first, later = self._keys if size is None else self._sized
        with translated():
            rows = await (
                self._engine.query_raw(first, most) if after is None else self._engine.query_raw(later, most, after)
            )
        if not rows:
            return None
        fits: list[str] = []
        for row in rows:
            if size is not None:
                size -= row["size"]
                if fits and size < 0:
                    break
            fits.append(row["key"])
        return Range(tuple(fits), fits[-1])

    async def present(self, keys: Sequence[Key]) -> frozenset[Key]:
        """As `Store.present` says."""
        with translated():
            rows = await self._engine.query_raw(self._present, orjson.dumps(list(keys)).decode())
        return frozenset(row["key"] for row in rows)


def _in_order(what: str, table: str, key: str) -> tuple[str, str]:
    """SQL for the first rows, and for those after a key. One plan for both would read all that lies before the key."""
    return (
        f"SELECT {what} FROM {table} t ORDER BY t.{key} LIMIT $1",
        f"SELECT {what} FROM {table} t WHERE t.{key} > $2 ORDER BY t.{key} LIMIT $1",
    )


def _size(field: Field) -> str:
    """SQL for the bytes of a value. What tells it without reading the value is asked."""
    column = f"t.{quoted(field.column)}"
    if field.type in {"String", "Bytes"} and not field.is_list:
        return f"octet_length({column})"
    return f"{_UNPACKED} * pg_column_size({column})"
