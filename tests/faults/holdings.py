"""What both stores hold, read by their own drivers, past everything that is under test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from bson import ObjectId
from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError

from adapters.node import find_node, node_environment
from examples.databases import PRISMA
from tests.faults.subjects import ACCOUNT, SUBJECTS, Json

# A connection for each question: the server may have been away in between.
_SQL: Final = """
import readline from 'node:readline'
import pg from 'pg'
for await (const line of readline.createInterface({ input: process.stdin })) {
  const [number, sql] = JSON.parse(line)
  const client = new pg.Client({ connectionString: process.env.DATABASE_URL, connectionTimeoutMillis: 3000 })
  client.on('error', () => {})
  let answer
  try {
    await client.connect()
    answer = { number, rows: (await client.query(sql)).rows }
  } catch (error) {
    answer = { number, error: error.message || error.code }
  }
  await client.end().catch(() => {})
  process.stdout.write(JSON.stringify(answer) + '\\n')
}
"""
_DEADLINE: Final = 15.0
_LIMIT: Final = 1 << 28


class Away(Exception):
    """A store does not answer; which, and what its driver said."""


@dataclass(frozen=True, slots=True)
class Holdings:
    """By entity and key, each side's documents in plain values, without what is empty; and the marks that are left.

    `met`: accounts that are in core's `users` alone. An account that is deleted while it gets another wallet leaves one, since
    core does the two in no common transaction; to the proxy it is an account like any other."""

    legacy: dict[str, dict[str, Json]]
    prisma: dict[str, dict[str, Json]]
    marks: dict[str, int]
    met: frozenset[str] = frozenset()


class Reader:
    """Reads both stores. Use `reading`."""

    def __init__(self, mongo: AsyncMongoClient[Json], node: asyncio.subprocess.Process) -> None:
        self._mongo = mongo
        self._node = node
        self._turn = asyncio.Lock()
        self._asked = 0

    @property
    def legacy(self) -> Any:
        return self._mongo.get_default_database()

    async def read(self, since: datetime, apart: Collection[str] = ()) -> Holdings:
        """The documents made at that time (UTC) or after it, but for the keys `apart`: nobody may be able to read them.
        Raises Away."""
        legacy, prisma, marks = {}, {}, {"legacy": 0, "prisma": 0}
        try:
            for subject in SUBJECTS.values():
                others = {"$nin": [ObjectId(key) for key in apart]}
                found = self.legacy[subject.table].find({"createdAt": {"$gte": since}, "_id": others})
                legacy[subject.entity] = {str(each["_id"]): _document(each) async for each in found}
            met = await self._met(since)
            legacy[ACCOUNT.entity] |= met
            marks["legacy"] = await self.legacy["strangler_marks"].count_documents({})
        except PyMongoError as error:
            raise Away(f"mongo: {error}") from error
        for subject in SUBJECTS.values():
            made = f"{since:%Y-%m-%dT%H:%M:%S.%f}"
            where = " AND ".join([f"\"createdAt\" >= '{made}'", *(f"\"_id\" <> '{key}'" for key in apart)])
            rows = await self.sql(f'SELECT row_to_json(t)::text AS row FROM "{subject.table}" t WHERE {where}')
            held = [_row(orjson.loads(row["row"])) for row in rows]
            prisma[subject.entity] = {row["_id"]: row for row in held}
        [row] = await self.sql('SELECT count(*)::int AS n FROM "strangler_mark"')
        return Holdings(legacy, prisma, {**marks, "prisma": row["n"]}, frozenset(met))

    async def _met(self, since: datetime) -> dict[str, Json]:
        users = {
            user["walletAddress"]: user async for user in self.legacy["users"].find({"createdAt": {"$gte": since}})
        }
        those = {"walletAddress": {"$in": list(users)}}
        async for account in self.legacy[ACCOUNT.table].find(those, {"walletAddress": 1}):
            del users[account["walletAddress"]]
        return {str(user["_id"]): _document({**user, "metBy": None}) for user in users.values()}

    async def sql(self, statement: str) -> list[Json]:
        """Raises Away."""
        assert self._node.stdin is not None
        assert self._node.stdout is not None
        async with self._turn, asyncio.timeout(_DEADLINE):
            self._asked += 1
            self._node.stdin.write(orjson.dumps([self._asked, statement]) + b"\n")
            answer: Json = {"number": 0}
            while answer["number"] != self._asked:  # what somebody asked who did not wait comes first
                answer = orjson.loads(await self._node.stdout.readline())
        if "error" in answer:
            raise Away(f"postgres: {answer['error']}")
        rows: list[Json] = answer["rows"]
        return rows


@asynccontextmanager
async def reading(mongo_url: str, database_url: str) -> AsyncIterator[Reader]:
    node = await asyncio.create_subprocess_exec(
        *(find_node(), "--input-type=module", "--eval", _SQL),
        cwd=PRISMA,
        env={**node_environment(), "DATABASE_URL": database_url},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LIMIT,
    )
    try:
        mongo: AsyncMongoClient[Json] = AsyncMongoClient(
            mongo_url, directConnection=True, serverSelectionTimeoutMS=3000, socketTimeoutMS=10_000
        )
        async with mongo:
            yield Reader(mongo, node)
    finally:
        node.kill()
        await node.wait()


def _document(found: Json) -> Json:
    return {name: _plain(value) for name, value in found.items() if value is not None and name != "__v"}


def _plain(value: Any) -> Any:
    if isinstance(value, ObjectId):
        return str(value)
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value


def _row(row: Json) -> Json:
    return {name: _moment(name, value) for name, value in row.items() if value is not None}


def _moment(name: str, value: Any) -> Any:
    if name not in ("createdAt", "updatedAt", "lastVerified"):
        return value
    return datetime.fromisoformat(value).replace(tzinfo=UTC)
