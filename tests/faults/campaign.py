"""A campaign: scenes in which something dies while clients work; and the same with a rule disobeyed, which must be caught."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from tests.faults.broken import RULES
from tests.faults.checker import QUIET
from tests.faults.record import STALE
from tests.faults.result import Caught, Result, Say

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Size:
    """How much of a campaign runs: `share` of its full counts, at most `most` scenarios in a scene, and only so many of its
    `scenes`. `patience`: seconds that the stores are given to agree."""

    share: float = 1.0
    patience: float = QUIET
    most: int | None = None
    scenes: int | None = None

    def of(self, count: int) -> int:
        return max(1, round(count * self.share))

    def staged(self, rng: Random, scenes: Sequence[T]) -> list[T]:
        """As many of its scenes as run, in their order."""
        chosen = range(len(scenes)) if self.scenes is None else sorted(rng.sample(range(len(scenes)), self.scenes))
        return [scenes[number] for number in chosen]

    def some(self, scenarios: Sequence[T]) -> list[T]:
        """As many of them as may run in one scene."""
        return list(scenarios[: self.most])


Run = Callable[[Size, Random, Result, Say, str | None], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Campaign:
    """`run` adds to a result; with `rules`, one of them disobeyed, what it finds shows that its checker can fail. `flips`: an
    entity changes sides in it; a replica that has not heard may read from the old one for a moment."""

    name: str
    run: Run
    rules: tuple[str, ...]
    flips: bool = False
    tries: int = 5
    caught_patience: float = 12.0

    async def whole(self, size: Size, seed: int, say: Say) -> Result:
        result = Result(self.name, seed)
        await self.run(size, Random(f"{self.name}-{seed}"), result, say, None)
        stale = result.contradictions[STALE]
        result.must(self.flips or not stale, f"{stale} reads did not see what had been acknowledged")
        return result

    async def proof(self, rule: str, seed: int, say: Say) -> Caught:
        """Run with the rule disobeyed, with one seed after the other, until the checker says so."""
        small = Size(share=0.05, patience=self.caught_patience)
        for attempt in range(1, self.tries + 1):
            result = Result(self.name, seed + attempt)
            await self.run(small, Random(f"{self.name}-{rule}-{seed + attempt}"), result, say, rule)
            if result.wrong:
                return Caught(rule, RULES[rule].says, attempt, result.wrong[0])
        return Caught(rule, RULES[rule].says, self.tries, None)
