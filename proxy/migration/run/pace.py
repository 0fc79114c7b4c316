"""The pace of a long run: how large its batches are, how many documents a second, and how much it leaves to the traffic."""

from __future__ import annotations

import asyncio
from typing import Final

SIZE: Final = 4 * 2**20
"""Bytes of documents that one batch may hold: with the workers, what bounds the memory of a run."""

_FIRST: Final = 500
_LEAST: Final = 100
_MOST: Final = 1000
_QUICK: Final = 0.4
_SLOW: Final = 1.2
"""Seconds that a batch may take: below the first it grows, beyond the second it shrinks."""

_LITTLE: Final = 0.05
"""The share of its time that a run goes on with, however badly the stores are."""
_AGAIN: Final = 1.25
_LONGEST_REST: Final = 5.0
"""Seconds that a worker rests after one batch."""


class Pace:
    """Shared by the workers of one run. `rate` is in documents a second; None: as fast as the stores like it. `size`: how
    many keys the first batch should have."""

    def __init__(self, rate: float | None = None, *, size: int = _FIRST) -> None:
        self._rate = rate
        self._next = 0.0
        self._size = float(size)
        self.share = 1.0

    @property
    def most(self) -> int:
        """How many keys the next batch should have."""
        size = int(self._size)
        # A rate is kept evenly, not in bursts that the traffic feels: about four batches a second.
        return size if self._rate is None else max(1, min(size, int(self._rate / 4)))

    async def allow(self, documents: int) -> None:
        """Return when so many more may be worked on."""
        if self._rate is None:
            return
        now = asyncio.get_running_loop().time()
        begin = max(now, self._next)
        self._next = begin + documents / self._rate
        await asyncio.sleep(begin - now)

    async def took(self, documents: int, seconds: float) -> None:
        """A batch of so many took so long. Returns after the rest that the stores are to have from this worker."""
        if seconds < _QUICK and documents >= self.most:
            self._size = min(_MOST, self._size * _AGAIN)
        elif seconds > _SLOW:
            self._size = max(min(_LEAST, self._size), self._size / _AGAIN)
        if self.share < 1.0:
            await asyncio.sleep(min(_LONGEST_REST, seconds * (1.0 / self.share - 1.0)))

    def strained(self) -> None:
        """The stores are behind with what they have to do for others: work half as much."""
        self.share = max(_LITTLE, self.share / 2)

    def eased(self) -> None:
        """They are well: a little more, up to all that there is."""
        self.share = min(1.0, self.share * _AGAIN)
