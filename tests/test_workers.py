"""Many replicas: workers behind one port, a graceful stop, and a rolling restart that no client notices."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import orjson
import pytest
from pymongo import AsyncMongoClient
from yarl import URL

from examples.processes import free_port
from tests.proxy_case import Databases, databases, fresh
from tests.replica_case import SECONDS, Balancer, Clients, Served, differences, environment_at, known, readiness, served
from tests.subjects import NFT, SUBJECTS, Json

LONG = "300"
"""Seconds of draining that no test waits for: SIGINT ends it."""


@pytest.fixture
async def stores(mongo_url: str, postgres_url: str, migrated_template: str) -> AsyncIterator[Databases]:
    async with (
        databases(mongo_url, postgres_url, migrated_template) as found,
        AsyncMongoClient[Json](found.mongo_url) as client,
    ):
        for name in ("users", *(subject.collection for subject in SUBJECTS)):
            await client.get_default_database().create_collection(name)
        yield found


@pytest.fixture(params=["dualwrite", "live"])
def stage(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def environment(stores: Databases, tmp_path: Path) -> dict[str, str]:
    return environment_at("live", stores, tmp_path)


async def ask(url: str, path: str = "/api/nfts") -> int:
    async with aiohttp.ClientSession() as session, session.get(url + path) as answer:
        await answer.read()
        return answer.status


async def gone(pid: int) -> None:
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return
            await asyncio.sleep(0.02)


async def test_each_worker_is_a_replica_with_a_name_and_an_admin_port(
    environment: dict[str, str], stores: Databases, server_folder: Path
) -> None:
    port = free_port()
    environment |= {"STRANGLER_ADMIN_PORT": str(port), "STRANGLER_REPLICA": "blue"}
    async with served("two", environment, server_folder, "--workers", "2") as running:
        first, second = await running.heard("serving", 2)
        assert {first["admin"], second["admin"]} == {f"http://127.0.0.1:{at}" for at in (port, port + 1)}
        assert first["url"] == second["url"]
        assert first["replica"] != second["replica"]
        assert first["replica"].startswith("blue-")
        assert await ask(first["url"]) == 200
        async with aiohttp.ClientSession() as session:
            for replica in (first, second):
                assert await readiness(session, replica["admin"]) == (200, None)
        assert {first["replica"], second["replica"]} <= await known(stores)
        running.tell(signal.SIGTERM)
        assert await running.program.exited(SECONDS) == 0
    assert not {first["replica"], second["replica"]} & await known(stores)
    for line in running.program.log.read_text().splitlines():
        assert {"event", "level", "timestamp"} <= orjson.loads(line).keys()


async def test_a_worker_that_dies_is_replaced_and_none_outlives_its_master(
    environment: Mapping[str, str], server_folder: Path
) -> None:
    async with served("mortal", environment, server_folder, "--workers", "2") as running:
        before = await running.heard("serving", 2)
        os.kill(before[0]["pid"], signal.SIGKILL)
        after = (await running.heard("serving", 3))[2]
        assert after["pid"] not in {replica["pid"] for replica in before}
        assert await ask(after["url"]) == 200
        async with aiohttp.ClientSession() as session:
            assert await readiness(session, after["admin"]) == (200, None)
        running.tell(signal.SIGKILL)
        for pid in (before[1]["pid"], after["pid"]):
            await gone(pid)


async def test_a_start_that_cannot_be_ends_all_of_them(environment: dict[str, str], server_folder: Path) -> None:
    taken = environment | {"STRANGLER_ADMIN_HOST": "192.0.2.1"}
    log = server_folder / "refused.log"
    with pytest.raises(Exception, match="refused ended with status 1"):
        async with served("refused", taken, server_folder, "--workers", "2"):
            pass
    lines = {line for line in log.read_text().splitlines() if not line.startswith("{")}
    assert lines == {"strangler: cannot listen on 192.0.2.1:0: Cannot assign requested address"}


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_stop_is_noticed_before_it_happens_and_finishes_what_was_begun(
    environment: dict[str, str], stores: Databases, server_folder: Path, workers: str
) -> None:
    """SIGTERM begins to drain; it is cut short here by SIGINT, which is not waited for either."""
    environment["STRANGLER_DRAIN"] = LONG
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(
            served(f"stop-{workers}", environment, server_folder, "--workers", workers)
        )
        replicas = await running.heard("serving", int(workers))
        url = URL(replicas[0]["url"])
        host, port = str(url.host), url.port or 0
        session = await stack.enter_async_context(aiohttp.ClientSession(url))
        async with session.get("/api/nfts") as answer:
            assert (answer.status, "Connection" in answer.headers) == (200, False)
        body = orjson.dumps(NFT.make(name := fresh(), ""))
        reader, writer = await asyncio.open_connection(host, port)
        head = (
            f"POST {NFT.create} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n"
        )
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:10])
        async with asyncio.timeout(SECONDS):
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"

        running.tell(signal.SIGTERM)
        for replica in replicas:
            async with asyncio.timeout(SECONDS):
                while await readiness(session, replica["admin"]) != (503, "stopping"):
                    await asyncio.sleep(0.02)
        for path in ("/api/nfts", "/api/nfts/0000", "/not/claimed"):
            # The first on the connection that was kept, the others on new ones.
            async with session.get(path) as answer:
                await answer.read()
                assert answer.headers["Connection"] == "close"

        for replica in replicas:
            os.kill(replica["pid"], signal.SIGINT)
        async with asyncio.timeout(SECONDS):
            while await _accepts(host, port):
                await asyncio.sleep(0.02)
        writer.write(body[10:])
        async with asyncio.timeout(SECONDS):
            answered = await reader.read()
        assert answered.startswith(b"HTTP/1.1 200 ")
        assert b"\r\nConnection: close\r\n" in answered
        writer.close()
        assert await running.program.exited(SECONDS) == 0
    created = orjson.loads(answered.partition(b"\r\n\r\n")[2])["data"]
    assert created["nftId"] == f"nft-{name}"
    assert await differences(stores, {created["id"]: created["tokenId"]}) == []
    assert not {replica["replica"] for replica in replicas} & await known(stores)


async def _accepts(host: str, port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    return True


async def test_a_rolling_restart_is_noticed_by_nobody(
    stores: Databases, server_folder: Path, tmp_path: Path, stage: str
) -> None:
    """Two processes, restarted one after the other under load; clients go to those that are ready."""
    environment = environment_at(stage, stores, tmp_path) | {"STRANGLER_DRAIN": "2"}
    places = {name: (free_port(), free_port()) for name in ("one", "other")}
    urls = {name: f"http://127.0.0.1:{port}" for name, (port, _) in places.items()}
    admins = {urls[name]: f"http://127.0.0.1:{admin}" for name, (_, admin) in places.items()}

    async def start(name: str) -> tuple[AsyncExitStack, Served]:
        port, admin = map(str, places[name])
        block = AsyncExitStack()
        settings = environment | {"STRANGLER_PORT": port, "STRANGLER_ADMIN_PORT": admin}
        return block, await block.enter_async_context(served(f"{name}-{stage}", settings, server_folder))

    balancer = Balancer(admins)
    clients = Clients(balancer)
    watching = asyncio.create_task(balancer.run())
    running = {name: await start(name) for name in places}
    try:
        await balancer.until(*urls.values())
        async with clients.working():
            for name in places:
                await clients.more(100)
                block, process = running[name]
                process.tell(signal.SIGTERM)
                assert await process.program.exited(SECONDS) == 0
                await clients.more(50)
                await block.aclose()
                running[name] = await start(name)
                await balancer.until(*urls.values())
            await clients.more(100)
        assert clients.failures == []
        assert await differences(stores, clients.held) == []
    finally:
        watching.cancel()
        for block, _ in running.values():
            await block.aclose()


async def test_a_reload_is_noticed_by_nobody(
    stores: Databases, server_folder: Path, tmp_path: Path, stage: str
) -> None:
    """SIGHUP: two new workers for the two old ones, behind the same port, under load."""
    environment = environment_at(stage, stores, tmp_path) | {"STRANGLER_DRAIN": "2"}
    async with served(f"reload-{stage}", environment, server_folder, "--workers", "2") as running:
        old = await running.heard("serving", 2)
        balancer = Balancer({old[0]["url"]: old[0]["admin"]})
        watching = asyncio.create_task(balancer.run())
        await balancer.until(old[0]["url"])
        watching.cancel()  # the one port is always ready
        clients = Clients(balancer)
        async with clients.working():
            await clients.more(100)
            running.tell(signal.SIGHUP)
            new = (await running.heard("serving", 4))[2:]
            for replica in old:
                await gone(replica["pid"])
            await clients.more(100)
        assert clients.failures == []
        assert not {replica["pid"] for replica in old} & {replica["pid"] for replica in new}
        assert not {replica["replica"] for replica in old} & await known(stores)
        assert await differences(stores, clients.held) == []
