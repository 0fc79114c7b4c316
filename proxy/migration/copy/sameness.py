"""Whether it is worth asking which documents are the same already: a copy that finds nothing there should not pay for it."""

from __future__ import annotations

from typing import Final

_WORTH: Final = 0.3
"""The share of a batch that has to be the same for the question to cost less than the writes that it saves."""
_RAREST: Final = 32


class Sameness:
    """Learns from each batch. It asks for the first one; while little is the same it asks ever more rarely, so that a run
    which begins among what is missing and comes to what is there finds out."""

    def __init__(self) -> None:
        self._every = 1
        self._since = 0

    def asks(self) -> bool:
        """Whether to ask for the next batch."""
        self._since += 1
        return self._since >= self._every

    def learn(self, keys: int, same: int) -> None:
        """Of so many keys that were asked for, so many were the same."""
        self._since = 0
        self._every = 1 if same >= _WORTH * keys else min(_RAREST, 2 * self._every)
