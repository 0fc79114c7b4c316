"""Databases on a PostgreSQL server: created migrated or as a copy of one that is, and dropped."""

import json
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from adapters.node import find_node, npm_command
from examples.commands import run

PRISMA = Path(__file__).resolve().parent.parent / "prisma"

# What pg's own client needs to run statements: no driver for PostgreSQL is among the Python dependencies.
_RUN_SQL = """
import fs from 'node:fs'
import pg from 'pg'
const client = new pg.Client({ connectionString: process.env.DATABASE_URL, connectionTimeoutMillis: 10000 })
try {
  await client.connect()
  for (const statement of JSON.parse(fs.readFileSync(0, 'utf8'))) await client.query(statement)
} catch (error) {
  console.error(error.message || error.code)
  process.exitCode = 1
}
await client.end()
"""


async def fresh_database(url: str, name: str, template: str | None = None) -> str:
    """Create a migrated database on a PostgreSQL server and return its URL.

    `template` names an already migrated database, to which nobody is connected, that it is copied from; without one
    the migrations are applied. Raises CommandFailed.
    """
    await run_sql(url, [f'CREATE DATABASE "{name}"' + (f' TEMPLATE "{template}"' if template else "")])
    fresh = with_database(url, name)
    if template is None:
        await migrate(fresh)
    return fresh


async def drop_database(url: str, name: str) -> None:
    """Drop a database of a PostgreSQL server, with whoever is connected to it."""
    await run_sql(url, [f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'])


async def migrate(url: str) -> None:
    """Apply the migrations of prisma/ to a PostgreSQL database. Raises CommandFailed."""
    await run([*npm_command(), "run", "--silent", "db:deploy"], cwd=PRISMA, env={"DATABASE_URL": url}, seconds=60)


async def run_sql(url: str, statements: Sequence[str]) -> None:
    """Run statements, one after the other, each in its own transaction. Raises CommandFailed."""
    await run(
        [find_node(), "--input-type=module", "--eval", _RUN_SQL],
        cwd=PRISMA,
        env={"DATABASE_URL": url},
        stdin=json.dumps(statements),
    )


def with_database(url: str, name: str) -> str:
    """The URL of one database on the server that `url` names."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
