"""A store, or the engine between a replica and one, is killed or hung under load, and comes back."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from random import Random
from typing import Final

from adapters.side import SideName
from tests.faults.campaign import Campaign, Size
from tests.faults.outage import command_of, descendants, send
from tests.faults.outages import Outage, Suffer, Times, endure
from tests.faults.result import Result, Say
from tests.faults.scene import Layout, Replica, Scene
from tests.faults.stretch import Ground, ground
from tests.faults.subjects import SUBJECTS
from tests.faults.workload import Load

_LOAD: Final = Load(rate=100, clients=16)
_TIMES: Final = 20
_LIMITS: Final = {"connect": "1s", "first_byte": "6s", "write": "4s", "read": "4s"}
_AWAY: Final = 2.0
"""Seconds that a store is away, on average."""

_PRIMARY: Final[Sequence[tuple[str, SideName]]] = (("shadow", "legacy"), ("live", "prisma"))

Block = Callable[[Scene, float], Awaitable[None]]


async def _kill_mongod(scene: Scene, seconds: float) -> None:
    await scene.mongod.kill()
    await asyncio.sleep(seconds)
    await scene.mongod.start()


async def _hang_mongod(scene: Scene, seconds: float) -> None:
    scene.mongod.pause()
    await asyncio.sleep(seconds)
    scene.mongod.resume()


async def _kill_postgres(scene: Scene, seconds: float) -> None:
    await scene.postgres.kill()
    await asyncio.sleep(seconds)
    await scene.postgres.start()


async def _hang_postgres(scene: Scene, seconds: float) -> None:
    scene.postgres.pause()
    await asyncio.sleep(seconds)
    scene.postgres.resume()


async def _kill_engines(scene: Scene, seconds: float) -> None:
    """Their owners start others by themselves."""
    for engine in _engines(scene):
        send(engine, signal.SIGKILL)
    await asyncio.sleep(seconds)


async def _hang_engines(scene: Scene, seconds: float) -> None:
    async with _stopped(_engines(scene)):
        await asyncio.sleep(seconds)


@asynccontextmanager
async def _stopped(pids: list[int]) -> AsyncIterator[None]:
    for pid in pids:
        send(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            send(pid, signal.SIGCONT)


def _engines(scene: Scene) -> list[int]:
    return [pid for replica in scene.live for pid in _engine_of(replica)]


def _engine_of(replica: Replica) -> list[int]:
    return [pid for pid in descendants(replica.server.program.pid) if "engine.mjs" in command_of(pid)]


_FAULTS: Final[Mapping[str, tuple[SideName, Block]]] = {
    "mongod killed": ("legacy", _kill_mongod),
    "mongod hung": ("legacy", _hang_mongod),
    "postgres killed": ("prisma", _kill_postgres),
    "postgres hung": ("prisma", _hang_postgres),
    "engine killed": ("prisma", _kill_engines),
    "engine hung": ("prisma", _hang_engines),
}


async def run(size: Size, rng: Random, result: Result, say: Say, broken: str | None) -> None:
    times = Times()
    for stage, primary in size.staged(rng, _PRIMARY):
        layout = Layout(dict.fromkeys(SUBJECTS, stage), durable=True, broken=broken, limits=_LIMITS)
        # Each server twenty times: at either stage, killed or hung.
        faults = [fault for fault in _FAULTS for _ in range(size.of(_TIMES // 4))]
        rng.shuffle(faults)
        async with ground(layout, rng, result) as here:
            scenarios = [_scenario(here, fault, stage, primary) for fault in size.some(faults)]
            await endure(here, _LOAD, scenarios, size, times, say)
            if broken and result.wrong:
                break
    result.figures |= times.figures()


def _scenario(here: Ground, fault: str, stage: str, primary: SideName) -> tuple[Outage, Suffer]:
    side, block = _FAULTS[fault]
    away = here.rng.uniform(0.5, 1.5) * _AWAY
    return Outage(f"{fault} at {stage}", of_primary=side == primary), partial(block, here.scene, away)


CAMPAIGN: Final = Campaign("stores", run, rules=("retry",))
