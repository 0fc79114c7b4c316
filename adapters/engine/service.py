"""`Engine`: Prisma Client as Python calls it, over a Node process that is restarted when it dies."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import structlog

from adapters.engine.errors import EngineError, EngineGone
from adapters.engine.link import Link
from adapters.engine.process import EngineProcess, Settings
from adapters.engine.values import wire
from config.schema import Schema, load_schema

log = structlog.get_logger(__name__)

_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 5.0
_HEALTH_TIMEOUT: Final = 2.0


@dataclass(frozen=True, slots=True)
class Call:
    """One statement of a transaction: an action on a model, or `queryRaw`/`executeRaw` without one."""

    model: str | None
    action: str
    args: Mapping[str, Any]

    @classmethod
    def query_raw(cls, sql: str, *params: Any) -> Call:
        return cls(None, "queryRaw", {"sql": sql, "params": params})

    @classmethod
    def execute_raw(cls, sql: str, *params: Any) -> Call:
        return cls(None, "executeRaw", {"sql": sql, "params": params})


class Engine:
    """The official Prisma Client on PostgreSQL, in a Node process of its own.

    Models and actions have the names of the JavaScript client (`"Video"`, `"findMany"`), and so have the arguments.
    Arguments may hold str, int (64 bits), float, bool, None, Decimal, bytes, aware or naive-as-UTC datetime, Enum,
    and `Json` for the value of a Json field. What would not arrive as it is (NaN, a larger int, NUL) is refused.

    Results hold, by Prisma type: String and enums str, Boolean bool, Int and BigInt int, Float float (a whole one int),
    Decimal str ("1.50" as "1.5"), DateTime str ("2026-01-31T12:00:00.000Z"), Bytes str (base64), Json the parsed value,
    where JSON's null and the database's are both None; scalar lists are lists of these.

    Every method but `is_healthy` raises EngineError: see `adapters.engine.errors`.
    """

    def __init__(
        self,
        database_url: str,
        *,
        pool: int = 10,
        connect: float = 3.0,
        timeout: float = 10.0,
        node: Path | None = None,
        client: Path | None = None,
        schema: Schema | None = None,
        limit: int = 4096,
        patience: float = 1.0,
        owner: str = "",
        silence: float = 30.0,
    ) -> None:
        """`timeout` bounds a call and a statement, `connect` the wait for one of `pool` connections; `limit` the calls in
        flight; `patience` a call's wait for an engine that is being restarted. `client` and `schema` name others than ours.
        `owner` is the replica by which PostgreSQL knows the connections: see `PrismaState.forget_replica`.
        A process that says nothing at all for `silence` seconds is replaced."""
        self.owner = owner
        self._settings = Settings(database_url, pool, connect, timeout, limit, node, client, owner)
        self._given_schema = schema
        self._patience = patience
        self._silence = silence
        self._process: EngineProcess | None = None
        self._link: Link | None = None
        self._up = asyncio.Event()
        self._supervisor: asyncio.Task[None] | None = None
        self.restarts = 0

    @cached_property
    def schema(self) -> Schema:
        return self._given_schema or load_schema()

    @property
    def pid(self) -> int | None:
        """The process, while there is one."""
        return self._process.pid if self._process else None

    async def connect(self) -> None:
        """Start the process. The database need not be there yet."""
        if self._supervisor is None:
            await self._start()
            self._supervisor = asyncio.create_task(self._supervise())

    async def disconnect(self) -> None:
        """Let what is in flight finish, within a grace of seconds, and end the process."""
        if self._supervisor is None:
            return
        supervisor, self._supervisor = self._supervisor, None
        supervisor.cancel()
        await asyncio.gather(supervisor, return_exceptions=True)
        await self._stop()

    async def is_healthy(self) -> bool:
        """Whether the database answers, by way of the engine, within two seconds. Never raises."""
        try:
            return bool(await self._request({"action": "health"}, min(_HEALTH_TIMEOUT, self._settings.timeout)))
        except EngineError:
            return False

    def call(
        self,
        model: str,
        action: str,
        args: Mapping[str, Any],
        *,
        tx: str | None = None,
        timeout: float | None = None,
        json_text: bool = False,
    ) -> Coroutine[Any, Any, Any]:
        """With `json_text`, a Json field arrives as its JSON text: JSON's null is "null", the database's None."""
        body: dict[str, Any] = {"model": model, "action": action, "args": wire(args)}
        if tx is not None:
            body["tx"] = tx
        if json_text:
            body["jsonText"] = True
        return self._request(body, timeout)

    def transaction(
        self,
        calls: Sequence[Call],
        *,
        isolation: str | None = None,
        tx: str | None = None,
        timeout: float | None = None,
    ) -> Coroutine[Any, Any, list[Any]]:
        """All of the calls in one round trip and one transaction, or none; their results in order.

        `isolation` is Prisma's word for it (`Serializable` …). Within `tx` they are part of that transaction, and it is
        for its owner to roll it back when they fail.
        """
        limit = int((timeout or self._settings.timeout) * 1000)
        args: dict[str, Any] = {"calls": [_wire_call(call) for call in calls], "timeout": limit, "maxWait": limit}
        body: dict[str, Any] = {"action": "batch", "args": args | ({"isolation": isolation} if isolation else {})}
        return self._batch(calls, body | {"tx": tx} if tx else body, timeout)

    def begin(
        self, *, timeout: float = 5.0, max_wait: float = 2.0, isolation: str | None = None
    ) -> Coroutine[Any, Any, str]:
        """An interactive transaction's id. It is rolled back after `timeout` seconds, or when this process is gone."""
        args = {"timeout": int(timeout * 1000), "maxWait": int(max_wait * 1000)}
        options = args | {"isolation": isolation} if isolation else args
        return self._request({"action": "begin", "args": options}, max_wait + self._settings.timeout)

    async def commit(self, tx: str) -> None:
        await self._request({"action": "commit", "tx": tx})

    async def rollback(self, tx: str) -> None:
        await self._request({"action": "rollback", "tx": tx})

    async def query_raw(self, sql: str, *params: Any, tx: str | None = None) -> list[dict[str, Any]]:
        """The rows of a statement with parameters $1, $2 …; dates and times are text as PostgreSQL writes it."""
        return _rows(await self.query_table(sql, *params, tx=tx))

    async def query_table(self, sql: str, *params: Any, tx: str | None = None) -> dict[str, Any]:
        """The same as `columns`, `types` (Prisma's names of the columns' types) and `rows`; a bigint is text here."""
        table: dict[str, Any] = await self._raw("queryRaw", sql, params, tx)
        return table

    async def execute_raw(self, sql: str, *params: Any, tx: str | None = None) -> int:
        """The number of rows that a statement affected."""
        return int(await self._raw("executeRaw", sql, params, tx))

    async def metrics(self) -> dict[str, Any]:
        """calls, errors, refused, inFlight, transactions, pool {size, total, idle, waiting, lost}, memory (bytes),
        uptime (s) of the process, and `restarts`."""
        counted: dict[str, Any] = await self._request({"action": "metrics"})
        return counted | {"restarts": self.restarts}

    async def _raw(self, action: str, sql: str, params: Sequence[Any], tx: str | None) -> Any:
        body: dict[str, Any] = {"action": action, "args": {"sql": sql, "params": wire(params)}}
        return await self._request(body | {"tx": tx} if tx else body)

    async def _batch(self, calls: Sequence[Call], body: dict[str, Any], seconds: float | None) -> list[Any]:
        results = await self._request(body, seconds)
        return [_rows(r) if c.action == "queryRaw" else r for c, r in zip(calls, results, strict=True)]

    async def _request(self, body: dict[str, Any], seconds: float | None = None) -> Any:
        link = self._link
        if link is None or link.ended:
            link = await self._revived()
        return await link.request(body, seconds or self._settings.timeout)

    async def _revived(self) -> Link:
        if self._supervisor is None:
            raise EngineGone("the engine is not connected", sent=False)
        if self._link is not None:
            self._up.clear()  # it has ended, and its supervisor does not know yet
        try:
            async with asyncio.timeout(self._patience):
                await self._up.wait()
        except TimeoutError:
            raise EngineGone(f"the engine did not come back within {self._patience:g} s", sent=False) from None
        if self._link is None or self._link.ended:
            raise EngineGone("the engine went away again", sent=False)
        return self._link

    async def _start(self) -> None:
        process = await EngineProcess.start(self._settings)
        try:
            _, self._link = await asyncio.get_running_loop().create_unix_connection(self._new_link, str(process.socket))
        except BaseException as error:
            await process.stop()
            if isinstance(error, OSError):
                raise EngineGone(f"the engine does not answer: {error}", sent=False) from error
            raise
        self._process = process
        self._up.set()

    def _new_link(self) -> Link:
        return Link(limit=self._settings.limit, constraints=lambda: self.schema.constraints)

    async def _stop(self) -> None:
        process, self._process = self._process, None
        link, self._link = self._link, None
        self._up.clear()
        if process is not None:
            await process.stop()
        if link is not None:
            link.close()

    async def _watch(self, link: Link) -> None:
        """Return when the link is lost. A process that hangs loses it only when it is killed."""
        pause = self._silence / 3
        while not (await asyncio.wait([link.lost], timeout=pause))[0]:
            if link.silence < pause:
                continue
            try:
                await link.request({"action": "metrics"}, pause)
            except EngineError:
                if link.silence > self._silence and self._process is not None:
                    log.error("engine_silent", seconds=round(link.silence, 1), restarts=self.restarts)
                    self._process.kill()

    async def _supervise(self) -> None:
        """Bring the process back whenever it is lost, ever more slowly while it does not stay."""
        pause = _FIRST_PAUSE
        while True:
            if self._link is not None:
                born = asyncio.get_running_loop().time()
                await self._watch(self._link)
                status = self._process.status if self._process else None
                await self._stop()
                log.warning("engine_lost", status=status, restarts=self.restarts)
                if asyncio.get_running_loop().time() - born > _LONGEST_PAUSE:
                    pause = _FIRST_PAUSE
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, _LONGEST_PAUSE)
            self.restarts += 1
            try:
                await self._start()
            except EngineGone as error:
                log.error("engine_not_restarted", reason=str(error), restarts=self.restarts)


def _wire_call(call: Call) -> dict[str, Any]:
    body = {"action": call.action, "args": wire(call.args)}
    return body | {"model": call.model} if call.model else body


def _rows(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    columns, types = table["columns"], table["types"]
    wide = [i for i, kind in enumerate(types) if kind.startswith("bigint")]
    for row in table["rows"]:
        for i in wide:
            row[i] = [int(v) for v in row[i]] if isinstance(row[i], list) else row[i] and int(row[i])
    return [dict(zip(columns, row, strict=True)) for row in table["rows"]]
