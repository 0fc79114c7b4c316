"""A share of the keys, the same on both sides and in every run: whoever sees a key knows whether it is one of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from adapters.side import Key

FULL: Final = 100.0
_PARTS: Final = 1_000_000


class Sample:
    """`percent` is above 0, and at most 100."""

    def __init__(self, percent: float = FULL) -> None:
        self.percent = percent
        self._part = round(percent / FULL * _PARTS)

    def of(self, keys: Sequence[Key]) -> list[Key]:
        """Those of these keys that belong to it."""
        if self.percent >= FULL:
            return list(keys)
        return [key for key in keys if _place(key) < self._part]


def _place(key: Key) -> int:
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) % _PARTS
