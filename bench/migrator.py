"""A dual write of ours beside the same one by LaunchDarkly's migrator: the same two stores, durable, the same client."""

import asyncio
import secrets
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from typing import Final

import aiohttp

from bench.figure import Figure
from examples.processes import free_port, program, temporary_folder
from examples.proxim8.stand import ROOT, stand, stores
from examples.servers import fresh_database, with_database

_ROUNDS: Final = 10
_WRITES: Final = 40
_RATE: Final = 40.0


async def measure() -> list[Figure]:
    """The same steady rate of writes for both, in alternating rounds. Takes about half a minute."""
    async with AsyncExitStack() as running:
        folder = running.enter_context(temporary_folder())
        databases = await running.enter_async_context(stores(folder, durable=True))
        config = Path(__file__).with_name("collection.yaml")
        ours = await running.enter_async_context(stand(folder, databases, config=config))
        port = free_port()
        # Databases of its own on the same servers: in ours, the change stream would be faster than its second write.
        theirs = with_database(databases.mongo_url, "peer"), await fresh_database(databases.database_url, "peer")
        argv = [sys.executable, "-m", "bench.peer_migrator", str(port), *theirs]
        await running.enter_async_context(program("peer", argv, folder=folder, cwd=ROOT, ready_line="serving"))
        session = await running.enter_async_context(aiohttp.ClientSession())
        urls = {"ours": ours.url, "peer": f"http://127.0.0.1:{port}"}
        for url in urls.values():
            await _write(session, url)
        rounds = [{name: await _write(session, url) for name, url in urls.items()} for _ in range(_ROUNDS)]
    return [
        Figure(
            "dual write p50, to LaunchDarkly's migrator",
            median(done["ours"] / done["peer"] for done in rounds),
            "ratio",
            "<= 0.70",
            "launchdarkly-server-sdk",
        ),
        Figure("dual write p50", median(done["ours"] for done in rounds), "ms"),
        Figure("dual write p50 of LaunchDarkly's migrator", median(done["peer"] for done in rounds), "ms"),
    ]


async def _write(session: aiohttp.ClientSession, url: str) -> float:
    """The median latency of some creates, in milliseconds."""
    taken = []
    start = time.perf_counter()
    for turn in range(_WRITES):
        await asyncio.sleep(max(0.0, start + turn / _RATE - time.perf_counter()))
        body = {"walletAddress": f"0x{secrets.token_hex(20)}"}
        begun = time.perf_counter()
        async with session.post(f"{url}/api/accounts", json=body) as response:
            assert response.status == 201, await response.text()
            await response.read()
        taken.append((time.perf_counter() - begun) * 1000)
    return median(taken)
