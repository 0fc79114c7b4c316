"""The links between replicas and servers are cut, delayed, swallowed, or lose the answers of requests that went out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from random import Random
from typing import Final

from tests.faults.campaign import Campaign, Size
from tests.faults.outages import Outage, Times, endure
from tests.faults.relay import Relay
from tests.faults.result import Result, Say
from tests.faults.scene import Layout, Link
from tests.faults.stretch import Ground, ground
from tests.faults.subjects import SUBJECTS
from tests.faults.workload import Load

_LOAD: Final = Load(rate=80, clients=16)
_LIMITS: Final = {"connect": "1s", "first_byte": "6s", "write": "4s", "read": "4s"}
_TIMES: Final = 10
_DELAY: Final = 2.0
_ANSWERS: Final = 3
"""How many answers are lost in one scenario, on each relay."""

_WRITES: Final[Mapping[Link, bytes]] = {
    "mongo": b"commitTransaction",
    "postgres": b"COMMIT",
    "core": b"api/",
    "proxim8": b"api/",
}
"""What a request holds whose answer is worth losing."""
_PRIMARY: Final[Mapping[str, Sequence[Link]]] = {"shadow": ("mongo", "core", "proxim8"), "live": ("postgres",)}
_LASTS: Final[Mapping[str, float]] = {"cut": 1.5, "delay": 3.0, "hole": 3.0, "lost answer": 2.0}
_FAULTS: Final[Mapping[str, Callable[[Relay, Link], None]]] = {
    "cut": lambda relay, link: relay.cut(),
    "delay": lambda relay, link: relay.delay(_DELAY),
    "hole": lambda relay, link: relay.hole(),
    "lost answer": lambda relay, link: relay.lose_answers(_ANSWERS, _WRITES[link]),
}
_LINKS: Final[Mapping[str, Sequence[Link]]] = {
    "shadow": ("mongo", "postgres", "core", "proxim8"),
    # At live nobody asks the old servers.
    "live": ("mongo", "postgres"),
}


async def run(size: Size, rng: Random, result: Result, say: Say, broken: str | None) -> None:
    times = Times()
    for stage, links in size.staged(rng, list(_LINKS.items())):
        layout = Layout(dict.fromkeys(SUBJECTS, stage), relays=True, broken=broken, limits=_LIMITS)
        # Each link ten times: a store's at either stage, the old servers' two together.
        faults = [(fault, link) for fault in _FAULTS for link in links for _ in range(size.of(_TIMES // 2))]
        rng.shuffle(faults)
        async with ground(layout, rng, result) as here:
            scenarios = [
                (Outage(f"{fault} on {link} at {stage}", link in _PRIMARY[stage]), partial(_suffer, here, fault, link))
                for fault, link in size.some(faults)
            ]
            await endure(here, _LOAD, scenarios, size, times, say)
            if broken and result.wrong:
                break
    result.figures |= times.figures()


async def _suffer(here: Ground, fault: str, link: Link) -> None:
    """On the link of one replica, or on that of each."""
    relays = here.scene.relays(link)
    if here.rng.random() < 0.5:
        relays = [here.rng.choice(relays)]
    for relay in relays:
        _FAULTS[fault](relay, link)
    await asyncio.sleep(here.rng.uniform(0.7, 1.3) * _LASTS[fault])
    here.scene.heal()


CAMPAIGN: Final = Campaign("relay", run, rules=("retry",))
