"""What migrating costs the clients: a read at `shadow` and a write at `dualwrite`, beside the same at `off`.

The stages alternate in one run, so that what drifts hits both. The load is an open loop well below saturation: what is
measured is what the work beside the traffic does to latency, not how fast the machine is.
"""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Final

import aiohttp

from bench.figure import Figure
from bench.open_loop import Call, latencies, quantile
from config.model import Stage
from examples.processes import temporary_folder
from examples.proxim8.reach import Reach, reach
from examples.proxim8.stand import stand, stores
from examples.proxim8.token import bearer

_ROUNDS: Final = 6
_SECONDS: Final = 4.0
_RATE: Final = 40.0
_WHO: Final = "bench"


async def measure() -> list[Figure]:
    """Takes about two minutes."""
    async with AsyncExitStack() as running:
        folder = running.enter_context(temporary_folder())
        databases = await running.enter_async_context(stores(folder))
        proxim8 = await running.enter_async_context(stand(folder, databases))
        reached = await running.enter_async_context(reach(proxim8))
        session = await running.enter_async_context(aiohttp.ClientSession(proxim8.url))
        profiles = await _profiles(session, bearer(proxim8.secret, "0xbench"))
        await _move(reached, "account", Stage.DUALWRITE, Stage.SHADOW)

        async def read(turn: int) -> None:
            async with session.get(f"/api/profiles/{profiles[turn % len(profiles)]}") as response:
                assert response.status == 200, await response.text()
                await response.read()

        async def write(turn: int) -> None:
            path, body = f"/api/profiles/{profiles[turn % len(profiles)]}", {"bio": f"turn {turn}"}
            async with session.patch(path, json=body) as response:
                assert response.status == 200, await response.text()
                await response.read()

        reads = await _alternate(reached, [Stage.DUALWRITE, Stage.SHADOW], [Stage.DUALWRITE, Stage.OFF], read)
        writes = await _alternate(reached, [Stage.DUALWRITE], [Stage.OFF], write)
    return [
        Figure("read p50 at shadow, to off", _ratio(reads, 0.50), "ratio", "<= 1.10", "off"),
        Figure("read p99 at shadow, to off", _ratio(reads, 0.99), "ratio", "<= 1.25", "off"),
        Figure("read p50 at off", quantile([t for off, _ in reads for t in off], 0.50), "ms"),
        Figure("write p50 at dualwrite, to off", _ratio(writes, 0.50), "ratio", "<= 1.25", "off"),
        Figure("write p50 at off", quantile([t for off, _ in writes for t in off], 0.50), "ms"),
    ]


async def _alternate(
    reached: Reach, there: Sequence[Stage], back: Sequence[Stage], call: Call
) -> list[tuple[list[float], list[float]]]:
    """Latencies in milliseconds of each round: at `off`, and at the last stage of `there`."""
    await _load(call, 1.0)
    rounds = []
    for _ in range(_ROUNDS):
        off = await _load(call, _SECONDS)
        await _move(reached, "profile", *there)
        await _load(call, 0.5)
        on = await _load(call, _SECONDS)
        await _move(reached, "profile", *back)
        await _load(call, 0.5)
        rounds.append((off, on))
    return rounds


async def _move(reached: Reach, entity: str, *stages: Stage) -> None:
    for stage in stages:
        async for _ in reached.cutover.flip(entity, stage, _WHO):
            pass
    await asyncio.sleep(0.5)  # longer than a replica takes to see it


async def _load(call: Call, seconds: float) -> list[float]:
    return await latencies(call, seconds=seconds, rate=_RATE)


async def _profiles(session: aiohttp.ClientSession, token: str) -> list[str]:
    keys = []
    for number in range(50):
        body = {"username": f"bench-{number}", "bio": "a profile", "avatar": "https://img.example/a.png"}
        async with session.post("/api/profiles", json=body, headers={"Authorization": token}) as response:
            assert response.status == 201, await response.text()
            keys.append((await response.json())["data"]["_id"])
    return keys


def _ratio(rounds: Sequence[tuple[list[float], list[float]]], share: float) -> float:
    """Of all rounds together: a single one has too few calls to say anything of its slowest."""
    off, on = ([taken for one in side for taken in one] for side in zip(*rounds, strict=True))
    return quantile(on, share) / quantile(off, share)
