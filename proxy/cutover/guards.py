"""The guards of a flip: what has to be well before an entity's writes are held for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from adapters.mongo.store import MongoStore
from adapters.side import Backlog, Run, SideError, SideName, Store
from config.model import Stage
from proxy.flags.both import within
from proxy.flags.registry import live_replicas
from proxy.flags.stages import MEANINGS, ORDER
from proxy.migration.run.keeping import SHAPE
from proxy.migration.run.shape import changes
from proxy.migration.verification.verification import NAME, Status, Verification, shape_of_run

VERIFIED: Final = 24 * 3600.0
"""Seconds for which a verification counts, unless the configuration says otherwise."""

_DEADLINE: Final = 3.0
_OLDEST: Final = 30.0
"""Seconds. What waits for longer to be settled will not be settled while writes are held."""
_MISMATCHES: Final = 0.05
_COMPARISONS: Final = 20
"""Fewer say nothing of the rate."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a guard found: `said` is how things stand and, where that is not well, what would be accepted."""

    guard: str
    passed: bool
    said: str

    def __str__(self) -> str:
        return f"{self.guard}: {self.said}"


@dataclass(frozen=True, slots=True)
class Move:
    """An entity about to change sides."""

    entity: str
    stage: Stage
    to: Stage

    @property
    def primary(self) -> SideName:
        return MEANINGS[self.stage].primary

    @property
    def onward(self) -> bool:
        return ORDER.index(self.to) > ORDER.index(self.stage)


Guard = Callable[[Move], Awaitable[Verdict]]

_SAID: Final = {Status.DIFFERENT: "found differences", Status.UNKNOWN: "came to no verdict"}


class Guards:
    def __init__(
        self,
        stores: Mapping[SideName, Store],
        legacy: MongoStore,
        shapes: Mapping[str, Mapping[str, str]],
        *,
        verified: float = VERIFIED,
    ) -> None:
        """`shapes`: what the entities are compared under now; `verified`: seconds for which a verification counts."""
        self._stores = stores
        self._legacy = legacy
        self._shapes = shapes
        self._verified_for = verified

    async def verdicts(self, move: Move) -> list[Verdict]:
        """What each guard says. One that cannot find out does not pass."""
        guards: dict[str, Guard] = {
            "stores": self._stores_answer,
            "replicas": self._replicas,
            "backlog": self._backlog,
            "quarantine": self._quarantine,
        }
        if move.onward:
            # The way back stays open: it is where an entity goes when its new side turns out to be wrong.
            guards |= {
                "transactions": self._transactions,
                "mismatches": self._mismatches,
                "verification": self._verification,
            }
        return list(await asyncio.gather(*(self._ask(name, guard, move) for name, guard in guards.items())))

    @staticmethod
    async def _ask(name: str, guard: Guard, move: Move) -> Verdict:
        try:
            return await within(_DEADLINE, guard(move))
        except SideError as error:
            return Verdict(name, False, f"cannot be known ({error}); expected both stores to answer")

    async def _stores_answer(self, _: Move) -> Verdict:
        answers = await asyncio.gather(*(store.is_healthy() for store in self._stores.values()))
        away = [side for side, answer in zip(self._stores, answers, strict=True) if not answer]
        if away:
            return Verdict("stores", False, f"{' and '.join(away)} does not answer; expected both to be healthy")
        return Verdict("stores", True, "both are healthy")

    async def _replicas(self, _: Move) -> Verdict:
        live = await live_replicas(self._stores)
        if not live:
            return Verdict("replicas", False, "no proxy is running; expected one, to settle what is still under way")
        return Verdict("replicas", True, f"{len(live)} running")

    async def _backlog(self, move: Move) -> Verdict:
        backlog = (await self._stores[move.primary].outbox()).get(move.entity, Backlog())
        said = f"{backlog.marks} writes of {move.primary} wait to be settled, the oldest for {backlog.oldest:.0f} s"
        if backlog.oldest >= _OLDEST:
            return Verdict("backlog", False, f"{said}; expected less than {_OLDEST:.0f} s")
        return Verdict("backlog", True, said if backlog.marks else "empty")

    async def _quarantine(self, move: Move) -> Verdict:
        kept = (await self._stores[move.primary].quarantine.sizes()).get(move.entity, 0)
        if kept:
            said = f"{kept} keys of {move.primary} cannot be settled; expected none: see strangler quarantine list"
            return Verdict("quarantine", False, said)
        return Verdict("quarantine", True, "empty")

    async def _transactions(self, move: Move) -> Verdict:
        if MEANINGS[move.to].secondary == "legacy" and not self._legacy.is_replica_set:
            said = "MongoDB has none as it runs; expected a replica set (one node is enough), to settle back to it"
            return Verdict("transactions", False, said)
        return Verdict("transactions", True, "available")

    async def _mismatches(self, move: Move) -> Verdict:
        counts = [replica.seen.get(move.entity, (0, 0)) for replica in await live_replicas(self._stores)]
        compared, differed = sum(count[0] for count in counts), sum(count[1] for count in counts)
        said = f"{differed} of the last {compared} comparisons found a mismatch"
        if compared >= _COMPARISONS and differed > _MISMATCHES * compared:
            return Verdict("mismatches", False, f"{said}; expected at most {_MISMATCHES:.0%}")
        return Verdict("mismatches", True, said)

    async def _verification(self, move: Move) -> Verdict:
        run = await self._stores[move.primary].runs.load(NAME, move.entity)
        wrong = self._why_not(move, run)
        if run is None or wrong:
            how = f"strangler verify {move.entity}"
            return Verdict("verification", False, f"{wrong}; expected one that is clean: {how}")
        return Verdict("verification", True, f"clean, {_ago(run.age)}")

    def _why_not(self, move: Move, run: Run | None) -> str | None:
        """What keeps the last verification from counting."""
        last = Verification.of(run) if run else None
        if run is None or last is None:
            return f"there is none since {move.primary} is the primary"
        if not run.done:
            return f"the last one has not ended, it was begun {last.began:%Y-%m-%d %H:%M}"
        if last.status != Status.CLEAN:
            return f"the last one, {_ago(run.age)}, {_SAID[last.status]}: {last.conclusion()}"
        if not last.is_full:
            return f"the last one compared a sample of {last.sample:g} %"
        if found := changes(run.detail[SHAPE], shape_of_run(self._shapes[move.entity], last.sample)):
            return f"since the last one something has changed: {', '.join(found)}"
        if run.age > self._verified_for:
            return f"the last one was {_ago(run.age)}, and counts for {self._verified_for / 3600:g} h"
        return None


def _ago(seconds: float) -> str:
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
