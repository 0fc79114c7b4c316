"""The traffic generator on the real old servers: it makes what it says, finds nothing wrong there, and finds faults."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web
from pymongo import MongoClient
from yarl import URL

from examples.proxim8.servers import old_server
from examples.proxim8.tally import Tally
from examples.proxim8.traffic import Traffic, TrafficResult, Unexpected

SECRET = "the secret of the old servers in the tests of the traffic"
ENTITIES = {"account", "profile", "video", "notification", "nft_ownership"}
DEADLINE = 60.0


class Front:
    """Both old servers behind one port, and a place to break what they answer: `spoil` changes an answer's envelope."""

    def __init__(self, core: str, proxim8: str, session: aiohttp.ClientSession) -> None:
        self.url = ""
        self.spoil: Callable[[str, Any], Any] = lambda route, envelope: envelope
        self._core = URL(core)
        self._proxim8 = URL(proxim8)
        self._session = session

    def _target(self, request: web.Request) -> URL:
        of_core = request.path.startswith(("/api/accounts", "/api/profiles"))
        return (self._core if of_core else self._proxim8).join(request.rel_url)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/ws":
            return await self._tunnel(request)
        kept = {
            name: request.headers[name]
            for name in ("Authorization", "Content-Type", "Range")
            if name in request.headers
        }
        async with self._session.request(
            request.method, self._target(request), data=await request.read(), headers=kept
        ) as answer:
            body = await answer.read()
            if answer.content_type == "application/json":
                body = orjson.dumps(self.spoil(f"{request.method} {request.path}", orjson.loads(body)))
            return web.Response(status=answer.status, body=body, content_type=answer.content_type)

    async def _tunnel(self, request: web.Request) -> web.WebSocketResponse:
        near = web.WebSocketResponse()
        await near.prepare(request)
        async with self._session.ws_connect(self._target(request)) as far:
            async for message in near:
                await far.send_bytes(message.data)
                await near.send_bytes(await far.receive_bytes())
        return near


@pytest.fixture(scope="module")
async def shared_front(module_mongo_database: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Front]:
    folder = tmp_path_factory.mktemp("traffic")
    async with contextlib.AsyncExitStack() as stack:
        settings = {"JOB_DELAY_MS": "5"}
        core, proxim8 = [
            await stack.enter_async_context(
                old_server(name, folder, mongo_url=module_mongo_database, secret=SECRET, settings=settings)
            )
            for name in ("core", "proxim8")
        ]
        session = await stack.enter_async_context(aiohttp.ClientSession())
        front = Front(core.url, proxim8.url, session)
        app = web.Application(client_max_size=10 << 20)
        app.router.add_route("*", "/{path:.*}", front.handle)
        runner = web.AppRunner(app)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        front.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield front


@pytest.fixture
def front(shared_front: Front) -> Front:
    shared_front.spoil = lambda route, envelope: envelope
    return shared_front


async def run_until(traffic: Traffic, enough: Callable[[TrafficResult], bool]) -> TrafficResult:
    stop = asyncio.Event()
    async with asyncio.timeout(DEADLINE):
        running = asyncio.create_task(traffic.run(stop))
        try:
            while not enough(traffic.result()) and not running.done():
                await asyncio.wait([running], timeout=0.05)
        finally:
            stop.set()
        return await running


async def test_it_seeds_through_the_api(front: Front, module_mongo_database: str) -> None:
    def counts() -> Counter[str]:
        with MongoClient[dict[str, Any]](module_mongo_database) as client:
            database = client.get_default_database()
            return Counter({name: database[name].count_documents({}) for name in database.list_collection_names()})

    before = counts()
    async with Traffic(front.url, secret=SECRET, wallets=4, concurrency=4) as traffic:
        seeded = await traffic.seed_documents(20, profiles=40, videos=60, notifications=50, nfts=30)
        result = traffic.result()
    assert seeded.counts == {"account": 20, "profile": 40, "video": 60, "notification": 50, "nft_ownership": 30}
    assert seeded.total == 200
    assert result.requests == 200 + 4
    assert (result.errors, result.troubles) == (0, ())
    stored = counts() - before
    accounts = {"accounts": 20 + 4, "users": 20 + 4}
    assert stored == {**accounts, "profiles": 40, "videos": 60, "notifications": 50, "nft_ownership": 30}


async def test_it_finds_nothing_wrong_with_the_old_servers(front: Front) -> None:
    async with Traffic(front.url, secret=SECRET, wallets=10, rate=400, concurrency=8) as traffic:
        await traffic.seed_documents(20, profiles=30, videos=30, notifications=30, nfts=30)
        result = await run_until(traffic, lambda result: result.operations >= 800)
    assert result.troubles == ()
    assert result.errors == 0
    assert result.requests >= result.operations >= 800
    assert {entity for entity, _ in result.figures} == ENTITIES | {"forwarded"}
    for entity in ENTITIES:
        for kind in ("read", "write"):
            figures = result.figures[entity, kind]
            assert figures.requests > 10
            assert 0 < figures.p50 <= figures.p99 <= figures.longest


async def test_the_same_seed_does_the_same(front: Front) -> None:
    async def routes(seed: int) -> list[str]:
        seen: list[str] = []

        def note(route: str, envelope: Any) -> Any:
            seen.append(route.translate(NO_IDS))
            return envelope

        front.spoil = note
        async with Traffic(front.url, secret=SECRET, seed=seed, wallets=1, rate=1000, concurrency=1) as traffic:
            result = await run_until(traffic, lambda result: result.operations >= 100)
        assert result.errors == 0
        return seen[:100]

    assert await routes(7) == await routes(7)
    assert await routes(7) != await routes(8)


NO_IDS = str.maketrans("", "", "0123456789abcdef")


@pytest.mark.parametrize(
    ("path", "spoil", "entity", "what"),
    [
        ("GET /api/videos/", lambda data: {**data, "title": "lost"}, "video", "not as it was left: title"),
        ("GET /api/profiles/", lambda data: {**data, "bio": None}, "profile", "not as it was left"),
        ("PATCH /api/nfts/", lambda data: {**data, "tokenId": "old"}, "nft_ownership", "tokenId"),
        ("GET /api/notifications", lambda data: data[::-1], "notification", "not newest first"),
        ("GET /api/profiles", lambda data: data[1:], "profile", "is missing"),
        ("POST /api/notifications/read-all", lambda data: {"modified": -1}, "notification", "were modified"),
        ("POST /api/videos/generate", lambda data: {**data, "account": {}}, "video", "not started as it should be"),
        ("POST /api/accounts", lambda data: {"_id": None}, "account", "not as it was sent"),
        ("GET /api/accounts/me", lambda data: {**data, "_id": "0"}, "account", "another account"),
    ],
)
async def test_a_fault_is_found(front: Front, path: str, spoil: Callable[[Any], Any], entity: str, what: str) -> None:
    def only_there(route: str, envelope: Any) -> Any:
        hit = route == path or (path.endswith("/") and route.startswith(path) and "/public" not in route)
        if not hit or not envelope["success"]:
            return envelope
        return {**envelope, "data": spoil(envelope["data"])}

    async with Traffic(front.url, secret=SECRET, wallets=4, rate=400, concurrency=4) as traffic:
        await traffic.seed_documents(5, profiles=5, videos=5, notifications=5, nfts=5)
        front.spoil = only_there
        result = await run_until(traffic, lambda result: any(what in trouble.what for trouble in result.troubles))
    found = next(trouble for trouble in result.troubles if what in trouble.what)
    assert found.entity == entity
    assert result.errors > 0


@pytest.mark.parametrize(
    ("envelope", "what"),
    [
        ([], "in a wrong envelope"),
        ({"success": False, "data": {}}, "in a wrong envelope"),
        ({"success": True}, "without data"),
    ],
)
async def test_a_wrong_envelope_is_an_error(front: Front, envelope: Any, what: str) -> None:
    front.spoil = lambda route, _: envelope
    async with Traffic(front.url, secret=SECRET, wallets=1, concurrency=1) as traffic:
        with pytest.raises(Unexpected, match=what):
            await traffic.seed_documents(1)
        assert traffic.result().errors == 1


async def test_nobody_there_is_an_error_and_not_an_end(front: Front) -> None:
    async with Traffic(front.url, secret=SECRET, wallets=2, rate=500, concurrency=2) as traffic:
        await traffic.seed_documents(1, profiles=1, videos=1, notifications=1, nfts=1)
        front.spoil = lambda route, envelope: 1 / 0
        result = await run_until(traffic, lambda result: result.errors >= 30)
    assert result.errors >= 30
    assert len(result.troubles) == 20
    assert "answered 500" in result.troubles[0].what or result.troubles[0].what == "ContentTypeError"


async def test_more_workers_than_wallets_are_refused() -> None:
    with pytest.raises(ValueError, match="3 workers need a wallet each, not 2 wallets"):
        Traffic("http://127.0.0.1:1", secret=SECRET, wallets=2, concurrency=3)


def test_latencies_are_within_a_percent() -> None:
    tally = Tally()
    for milliseconds in range(1, 1001):
        tally.request("video", "read")
        tally.answered("video", "read", milliseconds / 1000)
    figures = tally.result().figures["video", "read"]
    assert figures.requests == 1000
    assert figures.p50 == pytest.approx(500, rel=0.011)
    assert figures.p99 == pytest.approx(990, rel=0.011)
    assert figures.longest == pytest.approx(1000, rel=0.011)
