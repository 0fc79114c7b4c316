"""Waiting for a store that is away: with backoff and jitter, said once, and not for ever."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog

from adapters.side import Unavailable
from proxy.flags.lease import now

log = structlog.get_logger()

T = TypeVar("T")

PATIENCE: Final = 600.0
"""Seconds for which a store may be away, unless somebody says otherwise."""
_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 10.0


class GivenUp(Unavailable):
    """A store was away for longer than anybody would wait. What had been done is done."""


def _nobody(_: str | None) -> None:
    """Who is told where nobody wants to know."""


class Patience:
    """Shared by all that one run asks of the stores: how long nothing has succeeded counts, not how often one call failed.

    `said` is told of the trouble when it begins, and None when it is over.
    """

    def __init__(self, seconds: float = PATIENCE, said: Callable[[str | None], None] = _nobody) -> None:
        self._seconds = seconds
        self._said = said
        self._since: float | None = None
        self.waits = 0

    async def through(self, ask: Callable[[], Awaitable[T]]) -> T:
        """The answer, however often it has to be asked for; so it has to be something that may be asked again.

        Only what no document is to blame for is tried again. Raises GivenUp when the stores have been away for too long.
        """
        failures = 0
        while True:
            begun = now()
            try:
                answer = await ask()
            except (Unavailable, TimeoutError) as error:
                failures += 1
                self._failed(error, begun)
            else:
                self._succeeded(begun)
                return answer
            await asyncio.sleep(_pause(failures))

    def _failed(self, error: Unavailable | TimeoutError, begun: float) -> None:
        self.waits += 1
        cause = str(error) or "no answer in time"
        if self._since is None:
            self._since = begun
            log.warning("store_away", cause=cause, patience=self._seconds)
            self._said(cause)
        if now() - self._since > self._seconds:
            raise GivenUp(f"a store has been away for {self._seconds:.0f} s ({cause})") from error

    def _succeeded(self, begun: float) -> None:
        """An answer that was asked for before the trouble began says nothing about it."""
        if self._since is not None and begun >= self._since:
            log.info("store_back", seconds=round(now() - self._since, 1))
            self._since = None
            self._said(None)


def _pause(failures: int) -> float:
    """Seconds: doubling, capped, with jitter."""
    return random.uniform(0.5, 1.0) * min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(failures - 1, 10))
