"""Questions to the databases, of which some may stay without an answer: which, and why, is part of what was found."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import TypeVar

from adapters.side import SideError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Unasked:
    """What is not known, and why. `failed`: a store did not say; otherwise there was no way to ask."""

    what: str
    why: str
    failed: bool = False


@dataclass(slots=True)
class Questions:
    """Collects what stayed without an answer."""

    unasked: list[Unasked] = field(default_factory=list)

    @property
    def any_failed(self) -> bool:
        return any(one.failed for one in self.unasked)

    async def ask(self, what: str, answer: Awaitable[T]) -> T | None:
        """The answer; None where a store did not give one in time, or refused to."""
        try:
            return await answer
        except SideError as error:
            self.failed(what, error)
            return None

    def failed(self, what: str, error: SideError) -> None:
        self.unasked.append(Unasked(what, str(error), failed=True))

    def skip(self, what: str, why: str) -> None:
        self.unasked.append(Unasked(what, why))
