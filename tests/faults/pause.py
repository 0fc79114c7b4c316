"""A replica is hung through a flip, and goes on as if nothing had happened: its late writes and settles must not count."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from random import Random
from typing import Final

from tests.faults.campaign import Campaign, Size
from tests.faults.flipping import Coordinator, coordinating
from tests.faults.outage import send
from tests.faults.record import STALE, Record, kinds
from tests.faults.result import Result, Say
from tests.faults.scene import ROOT, Layout, Replica, Scene
from tests.faults.stretch import Ground, ground
from tests.faults.subjects import SUBJECTS
from tests.faults.workload import Load, Workload

_LOAD: Final = Load(rate=120, clients=40)
_ENTITY: Final = "video"
_OTHER: Final = {"shadow": "live", "live": "shadow"}
_REPLICAS: Final = 20
_SETTLES: Final = 5
_TRIES: Final = 4
_REFUSED: Final = "lease_lost"
_DEADLINE: Final = 60.0


async def run(size: Size, rng: Random, result: Result, say: Say, broken: str | None) -> None:
    # The rules are disobeyed where they count: of a replica's writes, and of a settle that comes from elsewhere.
    late_settle = "term" if broken == "term" else None
    layout = Layout(dict.fromkeys(SUBJECTS, "shadow"), broken=None if late_settle else broken)
    counts = {"replica": _REPLICAS, "settle": _SETTLES}
    plan = [hung for hung, count in counts.items() for _ in size.some(range(size.of(count)))]
    if broken:
        plan = ["settle" if late_settle else "replica"] * _TRIES
    refused = {"writes": 0, "settles": 0}
    async with ground(layout, rng, result) as here, coordinating(here.scene, here.reader) as coordinator:
        for hung in plan:
            async with here.load(_LOAD) as workload:
                await asyncio.sleep(rng.uniform(0.5, 1.0))
                if hung == "replica":
                    replica = rng.choice(here.scene.replicas)
                    said = await _past_a_replica(here, coordinator, replica)
                    await workload.seconds_answered(1.0)
                    _judge(workload.record, [replica.url], result)
                else:
                    said, answer = await _past_a_settle(here, coordinator, workload, late_settle)
                    refused["settles"] += answer.startswith("refused")
                    _judge(workload.record, [], result)
            verdict = await here.judged(said, patience=size.patience)
            result.scenarios[said] += 1
            late = sum(count for kind, count in kinds(workload.record.errors).items() if _REFUSED in kind)
            refused["writes"] += late
            say(f"pause, {said}: {verdict}, {late} late writes refused")
            if broken and result.wrong:
                return
    result.figures["late_refused"] = refused
    result.figures["stale_reads"] = result.contradictions[STALE]
    result.must(all(refused.values()), f"nothing was ever late: {refused}")


async def _past_a_replica(here: Ground, coordinator: Coordinator, hung: Replica) -> str:
    """It hangs longer than its lease lasts; clients go on asking it."""
    hung.server.pause()
    try:
        done = await _flip(here, coordinator)
        # For some time the entity is on its new side, and written there.
        await asyncio.sleep(here.rng.uniform(0.3, 0.8))
    finally:
        hung.server.resume()
    return f"a replica hung, {done}"


async def _past_a_settle(
    here: Ground, coordinator: Coordinator, workload: Workload, broken: str | None
) -> tuple[str, str]:
    """What it read is of before the flip; what it would write is what clients have changed since."""
    keys = [key for entity, key in workload.record.by_key if entity == _ENTITY]
    async with _settling(here.scene, keys, broken) as process:
        assert process.stdout is not None
        async with asyncio.timeout(_DEADLINE):
            await process.stdout.readline()
            done = await _flip(here, coordinator)
            await workload.change_all(_ENTITY)
            send(process.pid, signal.SIGCONT)
            answer = (await process.stdout.readline()).decode().strip()
    return f"a settle hung, {done}, it was {answer}", answer


@asynccontextmanager
async def _settling(scene: Scene, keys: list[str], broken: str | None) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.faults.late", _ENTITY),
        *(("--broken", broken) if broken else ()),
        cwd=ROOT,
        env={**os.environ, **scene.environment},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdin is not None
        process.stdin.write(json.dumps(keys).encode() + b"\n")
        yield process
        async with asyncio.timeout(_DEADLINE):
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _flip(here: Ground, coordinator: Coordinator) -> str:
    to = _OTHER[here.stages[_ENTITY]]
    flip = await coordinator.flip(_ENTITY, to)
    if flip.done:
        here.stages[_ENTITY] = to
        return f"flipped to {to}"
    here.result.failures.append(f"flip to {to} past what is hung: {flip.said}")
    return f"not flipped to {to}"


def _judge(record: Record, hung: Collection[str], result: Result) -> None:
    """Nobody notices, but those who asked the hung replica."""
    others = [each for each in record.errors if each.url not in hung]
    result.must(not others, f"{len(others)} requests to others failed: {', '.join(sorted(kinds(others)))}")


CAMPAIGN: Final = Campaign("pause", run, flips=True, rules=("lease", "term"), caught_patience=15.0)
