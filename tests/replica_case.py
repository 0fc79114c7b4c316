"""Replicas as processes of their own, and clients that go to those that are ready, keep their connections, and remember
every write that was acknowledged."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson
from bson import ObjectId
from pymongo import AsyncMongoClient

from adapters.engine import Engine
from examples.processes import Program, program
from tests.proxy_case import COLLECTION_CONFIG, Databases, fresh
from tests.subjects import NFT, Json

STRANGLER: Final = Path(sys.executable).with_name("strangler")
ROOT: Final = COLLECTION_CONFIG.parents[1]
SECONDS: Final = 60.0


def environment_at(stage: str, stores: Databases, folder: Path) -> dict[str, str]:
    """NFT ownership at this stage from the start, everything on free ports."""
    config = folder / "strangler.yaml"
    config.write_text(
        COLLECTION_CONFIG.read_text().replace("model: NFTOwnership", f"model: NFTOwnership\n    stage: {stage}")
    )
    return {
        "PATH": os.environ["PATH"],
        "HOME": "/",
        "MONGO_URL": stores.mongo_url,
        "DATABASE_URL": stores.database_url,
        "CORE_URL": "http://127.0.0.1:1",
        "JWT_SECRET": "the secret of the workers' tests",
        "STRANGLER_CONFIG": str(config),
        "STRANGLER_PORT": "0",
        "STRANGLER_ADMIN_PORT": "0",
        "STRANGLER_LOG": "json",
        "STRANGLER_DRAIN": "0",
    }


@dataclass(frozen=True, slots=True)
class Served:
    """A running `strangler serve`: one process, or a master with its workers."""

    program: Program
    begin: int

    def said(self, event: str) -> list[Json]:
        """Its events of this name, since it started."""
        lines = self.program.log.read_bytes()[self.begin :].decode().splitlines()
        events = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        return [said for said in events if said["event"] == event]

    async def heard(self, event: str, times: int) -> list[Json]:
        """The same, once it was said that often."""
        async with asyncio.timeout(SECONDS):
            while len(said := self.said(event)) < times:
                await asyncio.sleep(0.05)
        return said

    def tell(self, number: signal.Signals) -> None:
        """A signal to the first process alone, not to its group."""
        os.kill(self.program.pid, number)


@asynccontextmanager
async def served(name: str, environment: Mapping[str, str], folder: Path, *arguments: str) -> AsyncIterator[Served]:
    """`strangler serve` with these arguments, until the block ends."""
    log = folder / f"{name}.log"
    begin = log.stat().st_size if log.exists() else 0
    argv: list[str | Path] = [STRANGLER, "serve", *arguments]
    async with program(
        name, argv, folder=folder, cwd=ROOT, env=environment, ready_line='"serving"', seconds=SECONDS
    ) as process:
        yield Served(process, begin)


async def readiness(session: aiohttp.ClientSession, admin: str) -> tuple[int, Any]:
    """What /readyz says: 0 and the reason why nobody says anything."""
    try:
        async with session.get(f"{admin}/readyz", timeout=aiohttp.ClientTimeout(total=2)) as answer:
            return answer.status, (await answer.json())["reason"]
    except (aiohttp.ClientError, TimeoutError) as error:
        return 0, type(error).__name__


class Balancer:
    """Knows which of the replicas, by their admin ports, are ready; asks each of them a few times a second."""

    def __init__(self, replicas: Mapping[str, str]) -> None:
        self._admin = dict(replicas)
        self._ready: set[str] = set()
        self._turn = itertools.count()
        self._changed = asyncio.Condition()

    async def run(self) -> None:
        async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as tasks:
            for url in self._admin:
                tasks.create_task(self._watch(session, url))

    async def _watch(self, session: aiohttp.ClientSession, url: str) -> None:
        while True:
            status, _ = await readiness(session, self._admin[url])
            async with self._changed:
                (self._ready.add if status == 200 else self._ready.discard)(url)
                self._changed.notify_all()
            await asyncio.sleep(0.05)

    async def until(self, *ready: str) -> None:
        """Return once exactly these are ready."""
        async with asyncio.timeout(SECONDS), self._changed:
            await self._changed.wait_for(lambda: self._ready == set(ready))

    async def pick(self) -> str:
        """One that is ready, each in its turn."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._ready)
        ready = sorted(self._ready)
        return ready[next(self._turn) % len(ready)]


@dataclass(slots=True)
class Clients:
    """A few of them, each with connections of its own that it keeps. `held`: by key, the last value acknowledged."""

    balancer: Balancer
    held: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    requests: int = 0

    @asynccontextmanager
    async def working(self, number: int = 4) -> AsyncIterator[None]:
        """They work until the block ends, and finish what they have begun."""
        stop = asyncio.Event()
        tasks = [asyncio.create_task(self._work(stop)) for _ in range(number)]
        try:
            yield
        finally:
            stop.set()
            async with asyncio.timeout(SECONDS):
                await asyncio.gather(*tasks)

    async def more(self, requests: int) -> None:
        """Return once so many more have been answered."""
        goal = self.requests + requests
        async with asyncio.timeout(SECONDS):
            while self.requests < goal:
                await asyncio.sleep(0.02)

    async def _work(self, stop: asyncio.Event) -> None:
        mine: list[str] = []
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
            while not stop.is_set():
                if len(mine) < 5:
                    name = fresh()
                    created = await self._ask(session, "POST", NFT.create, NFT.make(name, ""))
                    if created is not None:
                        mine.append(created["data"]["id"])
                        self.held[mine[-1]] = created["data"]["tokenId"]
                    continue
                key = mine[self.requests % len(mine)]
                value = fresh()
                changed = await self._ask(session, "PATCH", f"/api/nfts/{key}", {"tokenId": value})
                if changed is not None:
                    self.held[key] = value
                read = await self._ask(session, "GET", f"/api/nfts/{key}")
                if read is not None and read["data"]["tokenId"] != self.held[key]:
                    self.failures.append(f"{key} read {read['data']['tokenId']}, written {self.held[key]}")

    async def _ask(self, session: aiohttp.ClientSession, method: str, path: str, body: Json | None = None) -> Any:
        """The answer's JSON; None where it is a failure."""
        url = await self.balancer.pick()
        self.requests += 1
        try:
            async with session.request(
                method,
                url + path,
                data=None if body is None else orjson.dumps(body),
                headers={"Content-Type": "application/json"} if body is not None else {},
                timeout=aiohttp.ClientTimeout(total=SECONDS),
            ) as answer:
                if answer.status == 200:
                    return orjson.loads(await answer.read())
                self.failures.append(f"{method} {answer.status} {(await answer.read())[:200]!r}")
        except (aiohttp.ClientError, TimeoutError) as error:
            self.failures.append(f"{method} {type(error).__name__} {error}")
        return None


async def known(stores: Databases) -> set[str]:
    """The names that either store has of replicas, and of holders of leases."""
    engine = Engine(stores.database_url)
    await engine.connect()
    try:
        async with AsyncMongoClient[Json](stores.mongo_url) as client:
            legacy = client.get_default_database()
            names = {str(row["_id"]) async for row in legacy["strangler_replicas"].find()}
            names |= {str(row["holder"]) async for row in legacy["strangler_leases"].find()}
        rows = await engine.query_raw(
            'SELECT "id" AS "name" FROM "strangler_replica" UNION SELECT "holder" FROM "strangler_lease"'
        )
        return names | {row["name"] for row in rows}
    finally:
        await engine.disconnect()


async def differences(stores: Databases, held: Mapping[str, str]) -> list[str]:
    """Where either store does not hold, by its own account, what was acknowledged last: what of it does not settle."""
    engine = Engine(stores.database_url)
    await engine.connect()
    found: list[str] = []
    try:
        async with AsyncMongoClient[Json](stores.mongo_url) as client, asyncio.timeout(SECONDS):
            while found := await _differences(client, engine, held):
                await asyncio.sleep(0.2)
    except TimeoutError:
        return found
    finally:
        await engine.disconnect()
    return []


async def _differences(client: AsyncMongoClient[Json], engine: Engine, held: Mapping[str, str]) -> list[str]:
    keys: Sequence[str] = list(held)
    rows = await engine.query_raw('SELECT "_id", "tokenId" FROM "nft_ownership"')
    prisma = {row["_id"]: row["tokenId"] for row in rows}
    collection = client.get_default_database()["nft_ownership"]
    legacy = {
        str(found["_id"]): found["tokenId"]
        async for found in collection.find({"_id": {"$in": [ObjectId(key) for key in keys]}})
    }
    return [
        f"{key}: {side} holds {store.get(key)}, acknowledged was {value}"
        for key, value in held.items()
        for side, store in (("legacy", legacy), ("prisma", prisma))
        if store.get(key) != value
    ]
