"""The indexes of a table as PostgreSQL has them, whoever made them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from adapters.engine import Engine
from adapters.prisma.errors import translated

_TABLE: Final = 'SELECT to_regclass(quote_ident($1))::text AS "table"'

# An expression has no column: its place is empty. Columns that are only carried along (INCLUDE) are left out.
_INDEXES: Final = (
    'SELECT i.relname::text AS "name", x.indisunique AS "unique", x.indisprimary AS "primary",'
    ' x.indpred IS NOT NULL AS "partial", m.amname::text AS "method",'
    " (SELECT json_agg(coalesce(a.attname::text, '') ORDER BY k.n)::text"
    " FROM unnest(x.indkey::int2[]) WITH ORDINALITY AS k(number, n)"
    " LEFT JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = k.number AND k.number > 0"
    ' WHERE k.n <= x.indnkeyatts) AS "columns"'
    " FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_am m ON m.oid = i.relam"
    " WHERE x.indrelid = to_regclass(quote_ident($1)) AND x.indisvalid ORDER BY i.relname"
)


@dataclass(frozen=True, slots=True)
class PrismaIndex:
    """`columns` in their order; an expression stands there as an empty name. `method`: btree, hash, gin …"""

    name: str
    columns: tuple[str, ...]
    unique: bool = False
    primary: bool = False
    partial: bool = False
    method: str = "btree"


async def table_indexes(engine: Engine, table: str) -> list[PrismaIndex] | None:
    """By name; None: there is no such table. Raises SideError."""
    with translated():
        [found] = await engine.query_raw(_TABLE, table)
        if found["table"] is None:
            return None
        rows = await engine.query_raw(_INDEXES, table)
    return [
        PrismaIndex(
            row["name"],
            tuple(json.loads(row["columns"])),
            unique=row["unique"],
            primary=row["primary"],
            partial=row["partial"],
            method=row["method"],
        )
        for row in rows
    ]
