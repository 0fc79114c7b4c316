"""Walking a table in the order of its keys, a range at a time."""

from __future__ import annotations

from typing import Final

from adapters.engine import Engine
from adapters.prisma.errors import translated
from adapters.prisma.settle import quoted
from adapters.side import Range
from config.schema import Field, Model

_UNPACKED: Final = 4
"""How many times larger a Json value or a list is when read than on disk, about: there it is compressed."""


class Ranges:
    """For one entity. The place is the last key: text that sorts as this database sorts it, and nowhere else."""

    def __init__(self, engine: Engine, model: Model) -> None:
        self._engine = engine
        key, table = quoted(model.id.column), quoted(model.table)
        self._keys = (
            f'SELECT t.{key} AS "key" FROM {table} t WHERE $1::text IS NULL OR t.{key} > $1 ORDER BY t.{key} LIMIT $2'
        )
        sizes = " + ".join(f"coalesce({_size(field)}, 0)" for field in model.stored())
        self._sized = (
            f'SELECT t.{key} AS "key", ({sizes})::bigint AS "size" FROM {table} t'
            f" WHERE $1::text IS NULL OR t.{key} > $1 ORDER BY t.{key} LIMIT $2"
        )

    async def __call__(self, after: str | None, *, most: int, size: int | None) -> Range | None:
        with translated():
            rows = await self._engine.query_raw(self._keys if size is None else self._sized, after, most)
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


def _size(field: Field) -> str:
    """SQL for the bytes of a value. What tells it without reading the value is asked."""
    column = f"t.{quoted(field.column)}"
    if field.type in {"String", "Bytes"} and not field.is_list:
        return f"octet_length({column})"
    return f"{_UNPACKED} * pg_column_size({column})"
