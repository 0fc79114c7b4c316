"""kill -9 of a proxy at a random moment, and its restart: at times of every replica at once."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Final

from tests.faults.campaign import Campaign, Size
from tests.faults.result import Result, Say
from tests.faults.scene import Layout
from tests.faults.stretch import Ground, ground
from tests.faults.workload import Load

STAGES: Final = {
    "account": "shadow",
    "profile": "shadow",
    "video": "live",
    "notification": "live",
    "nft_ownership": "shadow",
}
_LOAD: Final = Load(rate=90, clients=16)
_KILLS: Final = 200
_KILLS_A_STRETCH: Final = 8
_ALL_AT_ONCE: Final = 0.15


async def run(size: Size, rng: Random, result: Result, say: Say, broken: str | None) -> None:
    async with ground(Layout(STAGES, replicas=3, broken=broken), rng, result) as here:
        left = len(size.some(range(size.of(_KILLS))))
        while left > 0:
            done = result.scenarios.total()
            async with here.load(_LOAD):
                while (killed := result.scenarios.total() - done) < min(left, _KILLS_A_STRETCH):
                    await _kill(here)
                await here.scene.all_up()
            left -= killed
            verdict = await here.judged(f"kills {done + 1} to {done + killed}", patience=size.patience)
            say(f"kill {done + 1}-{done + killed}: {verdict}")
            if broken and not verdict.clean:
                return


async def _kill(here: Ground) -> None:
    """Some replica dies, at times every one that lives; the dead come back while others die."""
    rng, scene = here.rng, here.scene
    await asyncio.sleep(rng.uniform(0.05, 0.6))
    living = await scene.some_up()
    victims = living if rng.random() < _ALL_AT_ONCE else [rng.choice(living)]
    for victim in victims:
        await victim.server.kill_alone()
        scene.restart(victim)
    here.result.scenarios["with all others" if len(victims) > 1 else "alone"] += len(victims)


CAMPAIGN: Final = Campaign("kill", run, rules=("mark", "position"))
