"""What each stage means: the one table. Nothing else in the proxy branches on the name of a stage.

The words and their order are those of LaunchDarkly's migration flags.
"""

from __future__ import annotations

from dataclasses import dataclass

from adapters.side import SideName
from config.model import Stage


@dataclass(frozen=True, slots=True)
class Meaning:
    """Writes go to `primary` and, where it `settles`, its state is copied to the other side. Reads are served by the
    primary, `serve` percent of the keys by the other side where that is `servable`, and `compares` both."""

    primary: SideName
    settles: bool = False
    compares: bool = False
    servable: bool = False

    @property
    def secondary(self) -> SideName:
        return "prisma" if self.primary == "legacy" else "legacy"


MEANINGS: dict[Stage, Meaning] = {
    Stage.OFF: Meaning("legacy"),
    Stage.DUALWRITE: Meaning("legacy", settles=True),
    Stage.SHADOW: Meaning("legacy", settles=True, compares=True, servable=True),
    Stage.LIVE: Meaning("prisma", settles=True, compares=True),
    Stage.RAMPDOWN: Meaning("prisma", settles=True),
    Stage.COMPLETE: Meaning("prisma"),
}

ORDER = tuple(MEANINGS)


def is_step(before: Stage, after: Stage) -> bool:
    """An entity moves one stage at a time, onward or back."""
    return abs(ORDER.index(before) - ORDER.index(after)) == 1


def neighbours(stage: Stage) -> tuple[Stage, ...]:
    return tuple(other for other in ORDER if is_step(stage, other))


def moves_primary(before: Stage, after: Stage) -> bool:
    """Whether the step changes which side is the truth, and so has to be fenced."""
    return MEANINGS[before].primary != MEANINGS[after].primary
