"""What clients may notice while a server or a link is away: of their primary errors, for as long as it is; of the secondary
nothing."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from tests.faults.campaign import Size
from tests.faults.record import Trouble, now
from tests.faults.result import Result, Say, milliseconds, quantile
from tests.faults.stretch import Ground
from tests.faults.workload import Load, Workload

_A_STRETCH: Final = 3

_BASELINE: Final = 1.5
_BACK: Final = 20.0
"""Seconds within which clients of a primary that is back are answered again."""
_AFTER: Final = 1.0
"""Seconds after the first request that was answered in which others may still begin that fail."""
LIMIT: Final = 1.3
"""By how much a secondary's outage may raise the 99th percentile."""


@dataclass(slots=True)
class Times:
    """Seconds of writes outside and inside of outages of the secondary, over all scenarios."""

    baseline: list[float] = field(default_factory=list)
    during: list[float] = field(default_factory=list)
    back_after: list[float] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        baseline, during = quantile(self.baseline, 0.99), quantile(self.during, 0.99)
        ratio = round(during / baseline, 2) if baseline else 0.0
        return {
            "secondary_away": {
                "baseline_p50_ms": round(quantile(self.baseline, 0.5) * 1000, 1),
                "during_p50_ms": round(quantile(self.during, 0.5) * 1000, 1),
                "baseline_p99_ms": round(baseline * 1000, 1),
                "during_p99_ms": round(during * 1000, 1),
                "p99_ratio": ratio,
                "limit": LIMIT,
                "met": ratio <= LIMIT,
            },
            "primary_back_after_s": {
                "p50": quantile(self.back_after, 0.5),
                "most": max(self.back_after, default=0.0),
            },
        }


@dataclass(slots=True)
class Outage:
    """One outage, and when it was. `of_primary`: what is away is the truth of the entities that are written."""

    name: str
    of_primary: bool
    began: float = 0.0
    ended: float = 0.0

    def met(self, at: float, until: float) -> bool:
        """Whether what lasted so long met it, or what it left behind."""
        return at <= self.ended + _AFTER and until >= self.began


Suffer = Callable[[], Awaitable[None]]
"""What takes something away, and brings it back."""


async def endure(
    here: Ground, load: Load, scenarios: Sequence[tuple[Outage, Suffer]], size: Size, times: Times, say: Say
) -> None:
    """These outages one after the other under load, in stretches with a verdict each. What runs with a rule disobeyed ends
    with the first thing it finds."""
    for start in range(0, len(scenarios), _A_STRETCH):
        batch = scenarios[start : start + _A_STRETCH]
        async with here.load(load) as workload:
            outages = Outages(workload)
            for outage, suffer in batch:
                async with outages.lasting(outage):
                    await suffer()
        verdict = await here.judged(", ".join(outage.name for outage, _ in batch), patience=size.patience)
        for line in outages.judge(here.result, times):
            say(f"{here.result.campaign} {line}: {verdict}")
        if here.scene.layout.broken and not verdict.clean:
            return


class Outages:
    """Those of one stretch of load, with load without any fault before each."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        self._all: list[Outage] = []
        self._silent: list[str] = []

    @asynccontextmanager
    async def lasting(self, outage: Outage) -> AsyncIterator[None]:
        """The block is the outage. It ends when clients are answered again."""
        await asyncio.sleep(_BASELINE)
        self._all.append(outage)
        outage.began, outage.ended = now(), math.inf
        yield
        healed = now()
        try:
            async with asyncio.timeout(_BACK):
                while not any(each.write and each.at >= healed for each in reversed(self._workload.record.timed)):
                    await asyncio.sleep(0.02)
        except TimeoutError:
            self._silent.append(outage.name)
        outage.ended = now()

    def judge(self, result: Result, times: Times) -> list[str]:
        """Add what is not as it must be to the result; a line for each outage."""
        record = self._workload.record
        outside = [error for error in record.errors if not any(each.met(error.began, error.at) for each in self._all)]
        names = ", ".join(outage.name for outage in self._all)
        result.must(not self._silent, f"no write was answered within {_BACK:g} s after {', '.join(self._silent)}")
        result.must(not outside, f"{names}: {len(outside)} errors while nothing was away: {_some(outside)}")
        writes = [each for each in record.timed if each.write]
        calm = [
            each.seconds for each in writes if not any(one.met(each.at, each.at + each.seconds) for one in self._all)
        ]
        return [self._judge(outage, calm, result, times) for outage in self._all]

    def _judge(self, outage: Outage, calm: list[float], result: Result, times: Times) -> str:
        record = self._workload.record
        errors = [error for error in record.errors if outage.met(error.began, error.at)]
        result.scenarios[outage.name] += 1
        if outage.of_primary:
            times.back_after.append(outage.ended - outage.began)
            return f"{outage.name}: {len(errors)} errors while the primary was away"
        # Of a primary's outage before it there may be requests that fail only now.
        primary = [each for each in self._all if each.of_primary]
        errors = [error for error in errors if not any(each.met(error.began, error.at) for each in primary)]
        during = [
            each.seconds
            for each in record.timed
            if each.write and each.at <= outage.ended and each.at + each.seconds >= outage.began
        ]
        result.must(not errors, f"{outage.name}: {len(errors)} errors of a secondary's outage: {_some(errors)}")
        times.baseline += calm
        times.during += during
        before, then = milliseconds(calm, 0.99), milliseconds(during, 0.99)
        return f"{outage.name}: p99 {before} ms, during the outage {then} ms, {len(errors)} errors"


def _some(troubles: list[Trouble]) -> str:
    return ", ".join(sorted({f"{trouble.entity} {trouble.kind}" for trouble in troubles})[:5])
