"""Ten minutes of full load with the secondary away half of the time: what the replicas occupy stays what it was."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Final

from tests.faults.campaign import Campaign, Size
from tests.faults.outage import command_of, descendants, resident
from tests.faults.result import Result, Say
from tests.faults.scene import Layout, Replica
from tests.faults.stretch import ground
from tests.faults.subjects import SUBJECTS
from tests.faults.workload import Load

_LOAD: Final = Load(rate=300, clients=48)
_ROUNDS: Final = 20
_HALF: Final = 15.0
"""Seconds that the secondary is there, then away, in each round."""
_WARM: Final = 0.25
"""The share of the rounds after which memory is looked at for the first time."""
_GROWTH: Final = 0.05


async def run(size: Size, rng: Random, result: Result, say: Say, broken: str | None) -> None:
    rounds = max(4, size.of(_ROUNDS))
    seen: list[dict[str, int]] = []
    async with ground(Layout(dict.fromkeys(SUBJECTS, "shadow")), rng, result) as here:
        for number in range(rounds):
            # A stretch of load of its own each time: what the campaign remembers stays small.
            async with here.load(_LOAD):
                await asyncio.sleep(_HALF)
                here.scene.postgres.pause()
                try:
                    await asyncio.sleep(_HALF)
                finally:
                    here.scene.postgres.resume()
            verdict = await here.judged(f"round {number + 1} of load", patience=size.patience)
            occupied = {name: size for replica in here.scene.live for name, size in _occupied(replica).items()}
            seen.append(occupied)
            result.scenarios["secondary away and back"] += 1
            say(
                f"memory {number + 1}/{rounds}: {verdict}, "
                + ", ".join(f"{k} {v >> 20} MiB" for k, v in occupied.items())
            )
    warm = seen[int(len(seen) * _WARM)]
    growth = {name: round(seen[-1][name] / before - 1, 4) for name, before in warm.items() if name in seen[-1]}
    result.figures["memory"] = {
        "before_mib": {name: round(size / 2**20, 1) for name, size in warm.items()},
        "after_mib": {name: round(size / 2**20, 1) for name, size in seen[-1].items()},
        "growth": growth,
        "limit": _GROWTH,
        "met": all(share < _GROWTH for name, share in growth.items() if "engine" not in name),
    }


def _occupied(replica: Replica) -> dict[str, int]:
    """The bytes of its process, and of its engine's."""
    pid = replica.server.program.pid
    engines = [each for each in descendants(pid) if "engine.mjs" in command_of(each)]
    return {replica.name: resident(pid), f"{replica.name}'s engine": sum(resident(each) for each in engines)}


CAMPAIGN: Final = Campaign("memory", run, rules=())
