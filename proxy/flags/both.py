"""Asking both stores the same thing: one that hangs keeps nobody waiting for long, one that is away is left out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeVar

import structlog

from adapters.side import SideError, SideName, Store, Unavailable

log = structlog.get_logger()

DEADLINE: Final = 2.0
"""Seconds that a store has for a question about flags or replicas."""
GRACE: Final = 1.0
"""Seconds that the second answer is waited for once the first one is there."""

T = TypeVar("T")


async def within(seconds: float, answer: Awaitable[T]) -> T:
    """The answer, or Unavailable past the deadline: what was asked may have been done."""
    try:
        async with asyncio.timeout(seconds):
            return await answer
    except TimeoutError:
        raise Unavailable("no answer in time", sent=True) from None


async def ask_both(
    stores: Mapping[SideName, Store], ask: Callable[[SideName, Store], Awaitable[T]], *, grace: float = GRACE
) -> dict[SideName, T]:
    """What the stores say, of those that answer in time. Raises SideError where neither does."""
    asking = {
        asyncio.create_task(within(DEADLINE, ask(side, store)), name=f"ask-{side}"): side
        for side, store in stores.items()
    }
    try:
        return await _gathered(asking, grace)
    finally:
        for task in asking:
            task.cancel()


async def _gathered(asking: Mapping[asyncio.Task[T], SideName], grace: float) -> dict[SideName, T]:
    answers: dict[SideName, T] = {}
    pending = set(asking)
    while pending:
        done, pending = await asyncio.wait(
            pending, timeout=grace if answers else None, return_when=asyncio.FIRST_COMPLETED
        )
        if not done:
            break
        for task in done:
            try:
                answers[asking[task]] = task.result()
            except SideError as error:
                log.debug("store_silent", side=asking[task], cause=str(error))
    if not answers:
        raise SideError("neither store answers")
    return answers
