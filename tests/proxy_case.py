"""A proxy in this process before real stores and the real old servers, driven over HTTP; and each store's own account of
what it holds, read past everything that is under test."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping, MutableMapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

import aiohttp
import jwt
import orjson
from aiohttp import web
from bson import ObjectId
from multidict import CIMultiDictProxy
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase
from structlog.testing import capture_logs

from adapters.side import SideName
from config.load import load
from config.model import Stage
from config.schema import load_schema
from config.settings import read_settings
from examples.processes import Program, free_port
from examples.proxim8.servers import OldName, old_server
from examples.servers import drop_database, fresh_database, with_database
from proxy.app import Proxy
from proxy.cli.command import coordinator, verifier
from proxy.cutover.coordinator import Cutover
from proxy.flags.stages import ORDER
from proxy.forwarding.forward import SERVER_OPTIONS
from proxy.migration.copy.backfill import Backfill
from proxy.migration.verification.verification import Status
from proxy.migration.verification.verify import Verifier
from tests.subjects import SUBJECTS, Json, Subject

CONFIG: Final = Path(__file__).resolve().parents[1] / "config" / "proxim8.yaml"
COLLECTION_CONFIG: Final = Path(__file__).with_name("config_collection.yaml")
DEADLINE: Final = 20.0

Via = Literal["endpoint", "collection"]
Event = MutableMapping[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client got. `forwarded`: an old server answered, by way of the proxy."""

    status: int
    body: Any
    headers: CIMultiDictProxy[str]

    @property
    def data(self) -> Any:
        return self.body["data"]

    @property
    def forwarded(self) -> bool:
        return "strangler" in self.headers.get("Via", "")


def fresh() -> str:
    """A name that nothing else has."""
    return secrets.token_hex(6)


_UNIQUE: Final = (
    ("accounts", "walletAddress"),
    ("profiles", "username"),
    ("videos", "jobId"),
    ("nft_ownership", "nftId"),
)
"""The indexes that the old servers make."""
_TABLES: Final = {subject.entity: subject.collection for subject in SUBJECTS}


class Running:
    """A proxy that serves. `events` are those of this process since it started."""

    def __init__(
        self,
        proxy: Proxy,
        cutover: Cutover,
        url: str,
        secret: str,
        session: aiohttp.ClientSession,
        legacy: AsyncDatabase[Json],
        events: list[Event],
        environment: Mapping[str, str],
        old: Mapping[str, Program],
    ) -> None:
        self.proxy = proxy
        self.cutover = cutover
        self.url = url
        self.secret = secret
        self.session = session
        self.legacy = legacy
        self.events = events
        self.environment = environment
        self.old = old

    # Clients

    def token(self, wallet: str, **claims: Any) -> str:
        return jwt.encode({"wallet": {"address": wallet}, "exp": int(time.time()) + 3600, **claims}, self.secret)

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        wallet: str | None = None,
        headers: Mapping[str, str] | None = None,
        raw: bytes | None = None,
    ) -> Answer:
        sent = dict(headers or {})
        if wallet is not None:
            sent["Authorization"] = f"Bearer {self.token(wallet)}"
        data = raw if body is None else orjson.dumps(body)
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        async with (
            asyncio.timeout(DEADLINE),
            self.session.request(method, self.url + path, data=data, headers=sent) as response,
        ):
            received = await response.read()
            is_json = received and response.content_type == "application/json"
            parsed = orjson.loads(received) if is_json else received
            return Answer(response.status, parsed, response.headers)

    async def direct(self, server: str, path: str, *, wallet: str | None = None) -> Answer:
        """Ask an old server itself, past the proxy."""
        headers = {} if wallet is None else {"Authorization": f"Bearer {self.token(wallet)}"}
        async with self.session.get(self.environment[f"{server.upper()}_URL"] + path, headers=headers) as response:
            return Answer(response.status, orjson.loads(await response.read()), response.headers)

    async def create(self, subject: Subject, wallet: str, account: str, **changes: Any) -> str:
        """Create one through the proxy; its key."""
        answer = await self.ask("POST", subject.create, {**subject.make(fresh(), account), **changes}, wallet=wallet)
        assert answer.status == subject.created, answer.body
        return str(answer.data[subject.id])

    async def account(self) -> tuple[str, str]:
        """A new account: its wallet and its key."""
        wallet = f"0x{fresh()}"
        answer = await self.ask("POST", "/api/accounts", {"walletAddress": wallet})
        assert answer.status == 201, answer.body
        return wallet, answer.data["_id"]

    # Flags

    async def move(self, to: Stage, entities: Sequence[str] | None = None) -> None:
        """Walk these entities (or all) there, a stage at a time, with what was there before copied at `dualwrite`."""
        first, *rest = entities or _TABLES
        await self._walk(first, to)
        await asyncio.gather(*(self._walk(entity, to) for entity in rest))

    async def _walk(self, entity: str, to: Stage) -> None:
        await self.proxy.flags.refresh()
        while (at := ORDER.index(Stage(self.proxy.flags[entity].stage))) != ORDER.index(to):
            after = ORDER[at + 1 if at < ORDER.index(to) else at - 1]
            async for _ in self.cutover.flip(entity, after, "test", force=True):
                await self.proxy.flags.refresh()
            if after == Stage.DUALWRITE:
                stores = self.proxy.stores.by_side()
                done = await Backfill(stores, self.proxy.flags, self.proxy.settler).everything(entity)
                assert not done.refused, done.reasons

    def verifier(self) -> Verifier:
        """As the command's."""
        schema = load_schema()
        config = load(Path(self.environment["STRANGLER_CONFIG"]), self.environment, schema)
        return verifier(config, self.proxy.stores, schema, self.proxy.flags)

    async def verify(self, entity: str) -> None:
        """And find it clean: what a flip to `live` asks for."""
        found = await self.verifier().verify(entity)
        assert found.status == Status.CLEAN, found.summary()

    async def tune(self, entity: str, *, serve: int | None = None, sample: int | None = None) -> None:
        await self.cutover.tune(entity, "test", serve=serve, sample=sample)
        await self.proxy.flags.refresh()

    # Waiting

    async def quiet(self) -> None:
        """Return once everything that was begun has settled and been compared."""
        async with asyncio.timeout(DEADLINE):
            await self.proxy.writes.finished()
            await self.proxy.follower.caught_up()
            await self.proxy.replicator.drained()
            await self.proxy.comparing.finished()
            await self.proxy.replicator.drained()

    async def until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait until it holds; `what` names it where it never does."""
        try:
            async with asyncio.timeout(DEADLINE):
                while not holds():
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise AssertionError(f"never happened: {what}") from None

    # What the proxy counted and said

    def count(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        return sum(
            sample.value
            for family in self.proxy.metrics.registry.collect()
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def compared(self, entity: str, **labels: str) -> dict[str, int]:
        """Comparisons of the entity by result, those that there were any of."""
        results = ("equal", "lag", "mismatch", "shed", "failed", "skipped")
        counted = {
            result: int(self.count("strangler_comparisons_total", entity=entity, result=result, **labels))
            for result in results
        }
        return {result: value for result, value in counted.items() if value}

    def said(self, event: str, **parts: Any) -> list[Event]:
        return [said for said in self.events if said["event"] == event and parts.items() <= said.items()]

    # What the stores hold, by their own account

    async def on_legacy(self, entity: str, key: str) -> Json | None:
        """The document in the collection, in plain values, without what is empty."""
        found = await self.legacy[_TABLES[entity]].find_one({"_id": ObjectId(key)})
        if found is None:
            return None
        return {name: _plain(value) for name, value in found.items() if value is not None and name != "__v"}

    async def on_prisma(self, entity: str, key: str) -> Json | None:
        """The row, in the same plain values."""
        rows = await self.sql(f'SELECT row_to_json(t)::text AS row FROM "{_TABLES[entity]}" t WHERE "_id" = $1', key)
        if not rows:
            return None
        row = orjson.loads(rows[0]["row"])
        return {name: _moment(name, value) for name, value in row.items() if value is not None}

    async def sql(self, statement: str, *values: Any) -> list[dict[str, Any]]:
        return await self.proxy.stores.engine.query_raw(statement, *values)

    async def change_row(self, entity: str, key: str, **columns: Any) -> None:
        """Change a row behind the proxy's back."""
        sets = ", ".join(f'"{name}" = ${at}' for at, name in enumerate(columns, 2))
        statement = f'UPDATE "{_TABLES[entity]}" SET {sets} WHERE "_id" = $1'
        assert await self.proxy.stores.engine.execute_raw(statement, key, *columns.values()) == 1

    async def change_document(self, entity: str, key: str, **fields: Any) -> None:
        """Change a document behind the proxy's back."""
        done = await self.legacy[_TABLES[entity]].update_one({"_id": ObjectId(key)}, {"$set": fields})
        assert done.matched_count == 1

    async def remove_document(self, entity: str, key: str) -> None:
        """Delete a document behind the proxy's back."""
        done = await self.legacy[_TABLES[entity]].delete_one({"_id": ObjectId(key)})
        assert done.deleted_count == 1

    async def marks(self, entity: str | None = None) -> dict[SideName, int]:
        where = {} if entity is None else {"entity": entity}
        condition, values = ("", ()) if entity is None else (' WHERE "entity" = $1', (entity,))
        rows = await self.sql(f'SELECT count(*)::int AS n FROM "strangler_mark"{condition}', *values)
        return {"legacy": await self.legacy["strangler_marks"].count_documents(where), "prisma": rows[0]["n"]}

    async def fence(self, side: SideName, entity: str, key: str) -> int | None:
        """The token of the last settle of this key that reached this side."""
        if side == "legacy":
            found = await self.legacy["strangler_fences"].find_one({"_id": {"e": entity, "k": key}})
            return None if found is None else int(found["token"])
        rows = await self.sql('SELECT "token" FROM "strangler_fence" WHERE "entity" = $1 AND "key" = $2', entity, key)
        return rows[0]["token"] if rows else None


def _plain(value: Any) -> Any:
    if isinstance(value, ObjectId):
        return str(value)
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value


def _moment(name: str, value: Any) -> Any:
    if name not in ("createdAt", "updatedAt", "lastVerified"):
        return value
    return datetime.fromisoformat(value).replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Databases:
    """Two empty databases, the second one migrated."""

    mongo_url: str
    database_url: str


@asynccontextmanager
async def databases(mongo_url: str, postgres_url: str, template: str | None) -> AsyncIterator[Databases]:
    name = f"test_{secrets.token_hex(8)}"
    database_url = await fresh_database(postgres_url, name, template)
    try:
        yield Databases(with_database(mongo_url, name), database_url)
    finally:
        await drop_database(postgres_url, name)
        async with AsyncMongoClient[Json](mongo_url) as client:
            await client.drop_database(name)


def recorded() -> AbstractContextManager[list[Event]]:
    """This process's events, while the block lasts."""
    return capture_logs()


@asynccontextmanager
async def running(
    folder: Path,
    stores: Databases,
    *,
    via: Via = "endpoint",
    config: Path | None = None,
    settings: Mapping[str, str] | None = None,
    events: list[Event] | None = None,
) -> AsyncIterator[Running]:
    """A proxy before these stores and, where entities are reached through them, the two old servers. `events` is where
    this process's events go already, if anywhere: they can be had only once."""
    secret = secrets.token_hex(32)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    async with AsyncExitStack() as stack:
        client: AsyncMongoClient[Json] = await stack.enter_async_context(AsyncMongoClient(stores.mongo_url))
        old: dict[str, Program] = {}
        upstreams = {"CORE_URL": "http://127.0.0.1:1", "PROXIM8_URL": "http://127.0.0.1:1"}
        if via == "endpoint":
            urls = {"PUBLIC_URL": url, "JOB_DELAY_MS": "20"}
            names: tuple[tuple[OldName, str], ...] = (("core", "CORE_URL"), ("proxim8", "PROXIM8_URL"))
            for name, variable in names:
                server = await stack.enter_async_context(
                    old_server(name, folder, mongo_url=stores.mongo_url, secret=secret, settings=urls)
                )
                old[name], upstreams[variable] = server.process, server.url
        else:
            for collection, field in _UNIQUE:
                await client.get_default_database()[collection].create_index(field, unique=True)
        environment = {
            "MONGO_URL": stores.mongo_url,
            "DATABASE_URL": stores.database_url,
            "JWT_SECRET": secret,
            "STRANGLER_CONFIG": str(config or (CONFIG if via == "endpoint" else COLLECTION_CONFIG)),
            **upstreams,
            **(settings or {}),
        }
        if events is None:
            events = stack.enter_context(recorded())
        proxy = await stack.enter_async_context(serving(environment, port))
        session = await stack.enter_async_context(
            aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=True)
        )
        schema = load_schema()
        found = load(Path(environment["STRANGLER_CONFIG"]), environment, schema)
        cutover = coordinator(found, proxy.stores, schema)
        yield Running(proxy, cutover, url, secret, session, client.get_default_database(), events, environment, old)


@asynccontextmanager
async def another(first: Running) -> AsyncIterator[Running]:
    """One more replica in this process, before the same stores and old servers; with connections of its own."""
    port, schema = free_port(), load_schema()
    found = load(Path(first.environment["STRANGLER_CONFIG"]), first.environment, schema)
    async with (
        serving(first.environment, port) as proxy,
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=True) as session,
    ):
        cutover, url = coordinator(found, proxy.stores, schema), f"http://127.0.0.1:{port}"
        yield Running(
            proxy, cutover, url, first.secret, session, first.legacy, first.events, first.environment, first.old
        )


@asynccontextmanager
async def standing(
    folder: Path, mongo_url: str, postgres_url: str, template: str, *, via: Via = "endpoint", config: Path | None = None
) -> AsyncIterator[Running]:
    """A proxy before databases of its own."""
    async with (
        databases(mongo_url, postgres_url, template) as stores,
        running(folder, stores, via=via, config=config) as proxim8,
    ):
        yield proxim8


@asynccontextmanager
async def serving(environment: Mapping[str, str], port: int) -> AsyncIterator[Proxy]:
    """A proxy on this port until the block ends, as `strangler serve` runs it."""
    schema = load_schema()
    settings = read_settings(environment)
    proxy = Proxy(load(settings.config, environment, schema), settings, schema)
    runner = web.AppRunner(proxy.application(), shutdown_timeout=5.0, **SERVER_OPTIONS)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield proxy
    finally:
        await runner.cleanup()
