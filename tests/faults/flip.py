"""An entity changes sides and back under full load, with and without a death in the middle of it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from random import Random
from typing import Final, Literal, get_args

from proxy.cutover.flip import Step
from tests.faults.campaign import Campaign, Size
from tests.faults.flipping import Coordinator, Flip, coordinating
from tests.faults.record import STALE, Record
from tests.faults.result import Result, Say, milliseconds, quantile
from tests.faults.scene import Layout, Replica
from tests.faults.stretch import Ground, ground
from tests.faults.subjects import SUBJECTS
from tests.faults.workload import Load

_LOAD: Final = Load(rate=300, clients=48)
_LIGHT: Final = Load(rate=80, clients=24)
"""What two cores carry that run the whole scene besides: how long a flip holds writes, not how long they queue anyway."""
_ENTITY: Final = "video"
_OTHER: Final = {"shadow": "live", "live": "shadow"}
_FLIPS: Final = 50
_DEATHS: Final = 20
_LIGHT_FLIPS: Final = 10
_A_STRETCH: Final = 5
STEPS: Final[tuple[Step, ...]] = get_args(Step)
_QUICK: Final = 0.3
"""Seconds by which a flip may hold up writes: the 99th percentile of those that it holds."""
_DEADLINE: Final = 5.0
_DEATH: Final = ("ServerDisconnectedError", "ClientOSError", "ClientConnectionResetError")
"""What a client sees of a replica that dies while it is asked."""

Dies = Literal["nobody", "replica", "coordinator"]


async def run(size: Size, rng: Random, result: Result, say: Say, broken: str | None) -> None:
    counts: dict[Dies, int] = {"nobody": _FLIPS, "replica": _DEATHS, "coordinator": _DEATHS // 2}
    plan: list[Dies] = [dies for dies, count in counts.items() for _ in size.some(range(size.of(count)))]
    if broken:
        plan = [dies for dies in plan if dies == "nobody"]
    light: list[Dies] = ["nobody"] * len(size.some(range(size.of(_LIGHT_FLIPS))))
    added: dict[str, list[float]] = {}
    layout = Layout(dict.fromkeys(SUBJECTS, "shadow"), broken=broken)
    async with ground(layout, rng, result) as here, coordinating(here.scene, here.reader) as coordinator:
        for load, flips in ((_LOAD, plan), (_LIGHT, light)):
            for start in range(0, len(flips), _A_STRETCH):
                batch = flips[start : start + _A_STRETCH]
                for dies, seconds in (await _stretch(here, coordinator, load, batch, size, say)).items():
                    added.setdefault(f"{dies} dies, {load.rate:g} writes/s asked for", []).extend(seconds)
                if broken and result.wrong:
                    return
    result.figures["stale_reads"] = result.contradictions[STALE]
    result.figures["held_up_ms"] = {
        what: {
            "writes": len(seconds),
            "p50": milliseconds(seconds, 0.5),
            "p99": milliseconds(seconds, 0.99),
            "most": milliseconds(seconds, 1.0),
            "limit": (_QUICK if what.startswith("nobody") else _DEADLINE) * 1000,
        }
        for what, seconds in added.items()
    }


async def _stretch(
    here: Ground, coordinator: Coordinator, load: Load, batch: Sequence[Dies], size: Size, say: Say
) -> dict[Dies, list[float]]:
    """Flips under one load; by how much they held up each write, by who died in them."""
    async with here.load(load) as workload:
        await workload.seconds_answered(1.0)
        victims = [here.rng.choice(here.scene.replicas) for _ in batch]
        flips = [await _flip(here, coordinator, dies, victim) for dies, victim in zip(batch, victims, strict=True)]
    verdict = await here.judged(f"flips, {', '.join(batch)} dying", patience=size.patience)
    added: dict[Dies, list[float]] = {}
    for dies, flip in zip(batch, flips, strict=True):
        added.setdefault(dies, []).extend(held_up(workload.record, flip))
        say(f"flip, {dies} dies, {flip.said}, {flip.ended - flip.fenced:.2f} s: {verdict}")
    died = {victim.url for dies, victim in zip(batch, victims, strict=True) if dies == "replica"}
    _judge(workload.record, died, here.result)
    return added


async def _flip(here: Ground, coordinator: Coordinator, dies: Dies, victim: Replica) -> Flip:
    """To the other stage. Where the coordinator dies, or gives up for a dead replica, the flip is done or taken back."""
    to = _OTHER[here.stages[_ENTITY]]
    deaths: list[asyncio.Task[None]] = []

    def fenced() -> None:
        if dies == "replica":
            deaths.append(asyncio.create_task(_die(victim, here.rng.uniform(0, 0.03))))

    last = here.rng.choice(STEPS) if dies == "coordinator" else None
    flip = await coordinator.flip(_ENTITY, to, dies_at=last, fenced=fenced)
    await asyncio.gather(*deaths)
    if deaths:
        await victim.server.start()
    if flip.done:
        here.stages[_ENTITY] = to
    who = f"coordinator dies when {last}" if last else f"{dies} dies"
    here.result.scenarios[f"{who}, {'done' if flip.done else 'taken back'}"] += 1
    here.result.must(flip.done or dies != "nobody", f"flip to {to} without any death: {flip.said}")
    await asyncio.sleep(here.rng.uniform(0.2, 0.6))
    return flip


async def _die(victim: Replica, after: float) -> None:
    await asyncio.sleep(after)
    await victim.server.kill_alone()


def held_up(record: Record, flip: Flip) -> list[float]:
    """By how many seconds each write of the entity that met the fence took longer than one usually does."""
    writes = [each for each in record.timed if each.write and each.entity == _ENTITY]
    met = [each.seconds for each in writes if each.at <= flip.ended and each.at + each.seconds >= flip.fenced]
    usual = quantile([each.seconds for each in writes], 0.5)
    return [max(0.0, seconds - usual) for seconds in met]


def _judge(record: Record, died: Collection[str], result: Result) -> None:
    """No request fails; that a replica dies is noticed by those alone who were asking it."""
    failed = [each for each in record.errors if not (each.url in died and each.kind.endswith(_DEATH))]
    what = sorted({f"{each.entity} {each.kind}" for each in failed})
    result.must(not failed, f"{len(failed)} requests failed in a stretch of flips: {', '.join(what[:5])}")


CAMPAIGN: Final = Campaign("flip", run, flips=True, rules=("hold",))
