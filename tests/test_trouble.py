"""Outages of real servers, stopped and hung: clients of what still works see nothing, the others are told so, and all of
it settles when the servers are back."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from adapters.side import SideName
from config.model import Stage
from examples.processes import temporary_folder
from examples.servers import Server, free_port, mongod_server, postgres_server
from tests.proxy_case import CONFIG, DEADLINE, Answer, Running, databases, fresh, recorded, running, serving
from tests.subjects import ACCOUNT, NFT, PROFILE, VIDEO, Subject

LIMITS = "\nlimits: { connect: 1s, read: 1500ms, write: 1500ms, first_byte: 3500ms }\n"
NO_MARKS = {"legacy": 0, "prisma": 0}
BEFORE_FLIP = (ACCOUNT, PROFILE, VIDEO)


class Outage:
    """A server of the tests' own, which they may take down, bring back with its data, and hang."""

    def __init__(self, start: Callable[..., AbstractAsyncContextManager[Server]], folder: Path) -> None:
        self._start = start
        self._folder = folder
        self._port = free_port()
        self._block: AbstractAsyncContextManager[Server] | None = None
        self.server: Server | None = None

    async def up(self) -> Server:
        self._block = self._start(self._folder, port=self._port)
        self.server = await self._block.__aenter__()
        return self.server

    async def down(self) -> None:
        block, self._block, self.server = self._block, None, None
        if block is not None:
            await block.__aexit__(None, None, None)

    @asynccontextmanager
    async def away(self) -> AsyncIterator[None]:
        await self.down()
        try:
            yield
        finally:
            await self.up()

    @asynccontextmanager
    async def hung(self, processes: Iterable[int] = ()) -> AsyncIterator[None]:
        """`processes` are those of the server that are in groups of their own."""
        assert self.server is not None
        stopped = list(processes)
        self.server.process.signal(signal.SIGSTOP)
        for process in stopped:
            os.kill(process, signal.SIGSTOP)
        try:
            yield
        finally:
            for process in stopped:
                os.kill(process, signal.SIGCONT)
            self.server.process.signal(signal.SIGCONT)


@dataclass(frozen=True, slots=True)
class Place:
    """Two proxies on the same servers: before the old servers, and by itself. In both, NFT ownership is at live already,
    the others are at shadow."""

    mongo: Outage
    postgres: Outage
    endpoint: Running
    collection: Running

    @asynccontextmanager
    async def without(self, side: SideName, how: str) -> AsyncIterator[None]:
        outage = self.mongo if side == "legacy" else self.postgres
        if side == "legacy":
            # What a transaction that nobody could end keeps locked, it keeps for this long; by default for a minute.
            await self.endpoint.legacy.client.admin.command("setParameter", 1, transactionLifetimeLimitSeconds=3)
        if how == "away":
            async with outage.away():
                yield
            return
        backends = [row["pid"] for row in await self.endpoint.sql("SELECT pid FROM pg_stat_activity")]
        async with outage.hung(backends if side == "prisma" else ()):
            yield

    @property
    def proxies(self) -> tuple[Running, Running]:
        return self.endpoint, self.collection


@pytest.fixture(scope="module")
async def place() -> AsyncIterator[Place]:
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(temporary_folder())
        mongo, postgres = Outage(mongod_server, folder), Outage(postgres_server, folder)
        stack.push_async_callback(mongo.down)
        stack.push_async_callback(postgres.down)
        mongo_url, postgres_url = (await mongo.up()).url, (await postgres.up()).url
        config = folder / "proxim8.yaml"
        config.write_text(CONFIG.read_text() + LIMITS)
        events = stack.enter_context(recorded())
        found = []
        for via, path in (("endpoint", config), ("collection", None)):
            stores = await stack.enter_async_context(databases(mongo_url, postgres_url, None))
            proxim8 = await stack.enter_async_context(
                running(
                    folder, stores, via="endpoint" if via == "endpoint" else "collection", config=path, events=events
                )
            )
            await proxim8.move(Stage.SHADOW)
            await proxim8.move(Stage.LIVE, ["nft_ownership"])
            found.append(proxim8)
        yield Place(mongo, postgres, *found)


async def settled(proxim8: Running, entity: str, key: str) -> dict[str, object]:
    """What both sides hold of the key, once they do."""
    async with asyncio.timeout(DEADLINE):
        while True:
            held = await proxim8.on_legacy(entity, key)
            if held is not None and await proxim8.on_prisma(entity, key) == held:
                break
            await asyncio.sleep(0.02)
    await proxim8.quiet()
    return held


async def unmarked(proxim8: Running) -> None:
    async with asyncio.timeout(DEADLINE):
        while await proxim8.marks() != NO_MARKS:
            await asyncio.sleep(0.02)


def assert_unavailable(answer: Answer) -> None:
    assert (answer.status, answer.body["success"]) == (503, False)
    assert int(answer.headers["Retry-After"]) > 0


def uncompared(proxim8: Running) -> float:
    """Comparisons that got no answer, or asked for none: the settles may have opened the breaker before them."""
    return sum(proxim8.count("strangler_comparisons_total", result=result) for result in ("failed", "skipped"))


async def owners(proxim8: Running) -> tuple[str, str]:
    owner = await proxim8.account()
    await proxim8.quiet()
    return owner


@pytest.mark.parametrize("how", ["away", "hung"])
async def test_prisma_is_missed_by_nobody_whose_primary_is_legacy(place: Place, how: str) -> None:
    async def before(proxim8: Running) -> tuple[tuple[str, str], str]:
        owner = await owners(proxim8)
        nft = await proxim8.create(NFT, *owner)
        await proxim8.quiet()
        return owner, nft

    async def during(proxim8: Running, owner: tuple[str, str], nft: str) -> list[tuple[Subject, str]]:
        failures = proxim8.count("strangler_settle_failures_total")
        without_answer = uncompared(proxim8)
        written = []
        for subject in BEFORE_FLIP:
            key = await proxim8.create(subject, *owner)
            body, expected = subject.change(fresh())
            assert (await proxim8.ask("PATCH", subject.update.format(key), body)).status == 200
            read = await proxim8.ask("GET", f"{subject.path}/{key}")
            assert read.status == 200
            assert expected.items() <= read.data.items()
            written.append((subject, key))
        # What has prisma for its primary is told, and changes nothing.
        assert_unavailable(await proxim8.ask("PATCH", f"/api/nfts/{nft}", {"tokenId": "never"}))
        assert_unavailable(await proxim8.ask("GET", f"/api/nfts/{nft}"))
        # Once it has been tried, it is said and counted; what is to be settled stays.
        await proxim8.until(lambda: proxim8.count("strangler_settle_failures_total") > failures, "a failed settle")
        await proxim8.until(lambda: uncompared(proxim8) > without_answer, "a comparison without an answer")
        assert proxim8.said("settle_failed")
        assert all(proxim8.proxy.replicator.pending(subject.entity, key) for subject, key in written)
        return written

    async def after(proxim8: Running, nft: str, written: list[tuple[Subject, str]]) -> None:
        for subject, key in written:
            held = await settled(proxim8, subject.entity, key)
            assert subject.change("")[1].keys() <= held.keys()
        assert (await settled(proxim8, "nft_ownership", nft))["tokenId"] == "7"
        await unmarked(proxim8)
        assert proxim8.count("strangler_requests_total", status="500") == 0

    made = await asyncio.gather(*(before(proxim8) for proxim8 in place.proxies))
    async with place.without("prisma", how):
        pairs = zip(place.proxies, made, strict=True)
        written = await asyncio.gather(*(during(proxim8, owner, nft) for proxim8, (owner, nft) in pairs))
    ends = zip(place.proxies, made, written, strict=True)
    await asyncio.gather(*(after(proxim8, nft, keys) for proxim8, (_, nft), keys in ends))


@pytest.mark.parametrize("how", ["away", "hung"])
async def test_mongo_is_missed_by_nobody_whose_primary_is_prisma(place: Place, how: str) -> None:
    async def before(proxim8: Running) -> tuple[str, str]:
        owner = await owners(proxim8)
        profile = await proxim8.create(PROFILE, *owner)
        await proxim8.quiet()
        return owner[0], profile

    async def during(proxim8: Running, wallet: str, profile: str) -> str:
        failures = proxim8.count("strangler_settle_failures_total", entity="nft_ownership")
        key = await proxim8.create(NFT, wallet, "")
        assert (await proxim8.ask("PATCH", f"/api/nfts/{key}", {"tokenId": "8"})).status == 200
        assert (await proxim8.ask("GET", f"/api/nfts/{key}")).data["tokenId"] == "8"
        if proxim8 is place.collection:
            answers = await asyncio.gather(
                proxim8.ask("PATCH", f"/api/profiles/{profile}", {"bio": "in vain"}),
                proxim8.ask("GET", f"/api/profiles/{profile}"),
            )
            for answer in answers:
                assert_unavailable(answer)
        await proxim8.until(
            lambda: proxim8.count("strangler_settle_failures_total", entity="nft_ownership") > failures, "a failure"
        )
        rows = await proxim8.sql('SELECT count(*)::int AS n FROM "strangler_mark" WHERE "key" = $1', key)
        assert rows[0]["n"] == 2
        return key

    async def after(proxim8: Running, profile: str, nft: str) -> None:
        assert (await settled(proxim8, "nft_ownership", nft))["tokenId"] == "8"
        await unmarked(proxim8)
        # A write whose answer was lost may have happened; one that could not be sent has not. Both sides agree.
        held = await settled(proxim8, "profile", profile)
        assert how == "hung" or held["bio"] == "zażółć 🦊"

    made = await asyncio.gather(*(before(proxim8) for proxim8 in place.proxies))
    async with place.without("legacy", how):
        pairs = zip(place.proxies, made, strict=True)
        keys = await asyncio.gather(*(during(proxim8, *theirs) for proxim8, theirs in pairs))
    ends = zip(place.proxies, made, keys, strict=True)
    await asyncio.gather(*(after(proxim8, profile, key) for proxim8, (_, profile), key in ends))


async def test_an_old_server_without_its_database_speaks_for_itself(place: Place) -> None:
    wallet, account = await owners(place.endpoint)
    async with place.mongo.away():
        direct, answer, refused = await asyncio.gather(
            place.endpoint.direct("core", f"/api/accounts/{account}"),
            place.endpoint.ask("GET", f"/api/accounts/{account}"),
            place.endpoint.ask("POST", PROFILE.create, PROFILE.make(fresh(), ""), wallet=wallet),
        )
    assert (answer.status, answer.body) == (direct.status, direct.body)
    assert_unavailable(answer)
    assert_unavailable(refused)
    key = await place.endpoint.create(PROFILE, wallet, account)
    await settled(place.endpoint, "profile", key)


@pytest.mark.parametrize("missing", ["postgres", "mongo"])
async def test_a_proxy_starts_without_one_store_and_serves_what_it_can(place: Place, missing: str) -> None:
    before = place.collection
    theirs = await owners(before)
    profile, nft = await before.create(PROFILE, *theirs), await before.create(NFT, *theirs)
    await before.quiet()
    outage = place.postgres if missing == "postgres" else place.mongo
    port = free_port()
    async with AsyncExitStack() as stack:
        async with outage.away():
            proxy = await stack.enter_async_context(serving(before.environment, port))
            session = await stack.enter_async_context(aiohttp.ClientSession(f"http://127.0.0.1:{port}"))
            served, refused = (f"/api/profiles/{profile}", f"/api/nfts/{nft}")
            change, field = {"bio": "while the other was away"}, "bio"
            if missing == "mongo":
                served, refused, change, field = refused, served, {"tokenId": "while away"}, "tokenId"
            async with session.get(served) as answer:
                assert answer.status == 200
            async with session.patch(served, json=change) as answer:
                assert answer.status == 200
            async with session.get(refused) as answer:
                assert answer.status == 503
                assert int(answer.headers["Retry-After"]) > 0
            assert missing == "postgres" or before.said("store_away", side="legacy")
        entity, key = ("profile", profile) if missing == "postgres" else ("nft_ownership", nft)
        held = await settled(before, entity, key)
        assert held[field] == change[field]
        async with asyncio.timeout(DEADLINE):
            await proxy.replicator.drained()
        async with session.get(refused) as answer:
            assert answer.status == 200
    await unmarked(before)


async def test_a_hung_old_server_is_a_504_and_a_dead_one_a_502(place: Place) -> None:
    """Last of this file: the old server stays dead."""
    proxim8 = place.endpoint
    _, account = await owners(proxim8)
    core = proxim8.old["core"]
    core.signal(signal.SIGSTOP)
    try:
        answers = await asyncio.gather(
            proxim8.ask("GET", f"/api/accounts/{account}"),
            proxim8.ask("PATCH", f"/api/accounts/{account}", {"walletAddress": f"0x{fresh()}"}),
        )
    finally:
        core.signal(signal.SIGCONT)
    for answer in answers:
        assert (answer.status, answer.body["reason"]) == (504, "upstream_timeout")
    # The hung server may have done later what nobody waited for: the change stream tells.
    await settled(proxim8, "account", account)

    core.signal(signal.SIGKILL)
    await core.exited()
    for method, path, body in (
        ("GET", f"/api/accounts/{account}", None),
        ("POST", "/api/accounts", {"walletAddress": f"0x{fresh()}"}),
    ):
        answer = await proxim8.ask(method, path, body)
        assert (answer.status, answer.body["reason"]) == (502, "upstream_unreachable")
        assert answer.headers["X-Request-Id"] == answer.body["requestId"]
    # The other old server's entities, and what prisma is the primary of, go on.
    assert (await proxim8.ask("GET", "/api/videos/public")).status == 200
    assert (await proxim8.ask("POST", NFT.create, NFT.make(fresh(), ""))).status == 200
    await unmarked(proxim8)
