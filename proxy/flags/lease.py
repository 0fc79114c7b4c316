"""This replica's lease on writing: for how long it may believe that no flip has gone on without it."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from typing import Final

LEASE: Final = 3.0
"""Seconds after the last beat that a store recorded in which no flip declares a replica gone."""


def now() -> float:
    """Seconds by a clock that goes on while this process, or this machine, is stopped."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if sys.platform == "linux" else time.monotonic()


class Lease:
    """Held while the newest confirmed beat was begun less than LEASE ago.

    Protocol rule: register, then look, then hold. After a lapse, and at the start, holding begins only with a look at the
    flags that was *begun* after a beat had been confirmed. A replica that was paused through a flip and only beat again
    would write to the old primary under its old view; one that looks after it is registered either sees the fence, or is
    seen by the flip and waited for.

    Nor is it enough that the lease holds once a write has landed: the replica may have been paused, declared gone, and
    have come back while the write was on its way. It has to be the same tenure as when the write began.
    """

    def __init__(self, looked: Callable[[], float]) -> None:
        """`looked` says when the newest look at the flags that succeeded was begun, by `now`."""
        self._looked = looked
        self._begun = -math.inf
        self._since = math.inf
        self._tenure = 0

    def confirm(self, begun: float) -> None:
        """A store has recorded a beat that was begun then."""
        at = now()
        # The store may have recorded it as late as now: only if even that leaves no gap has nobody been declared gone.
        if at - self._begun >= LEASE:
            self._tenure += 1
            self._since = at
        self._begun = max(self._begun, begun)

    def tenure(self) -> int | None:
        """The number of the time without a gap for which the lease is held; None while it is not."""
        holds = now() - self._begun < LEASE and self._looked() >= self._since
        return self._tenure if holds else None

    def give_up(self) -> None:
        """Not held any more, until a beat is confirmed again."""
        self._begun = -math.inf
        self._since = math.inf
