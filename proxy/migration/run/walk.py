"""Walking in ranges: several are worked on at once, and they land in their order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from adapters.side import Range

T = TypeVar("T")

_AHEAD: Final = 2
"""Ranges, for each worker, that may be begun and not have landed: one that takes long does not stop the others."""


async def walk(
    following: Callable[[], Awaitable[Range | None]],
    work: Callable[[Range], Awaitable[T]],
    landed: Callable[[Range, T], Awaitable[None]],
    *,
    workers: int,
) -> None:
    """Until `following` says None: take the next range and work on it, up to `workers` at once.

    `landed` is called for one range after the other, in the order in which `following` gave them: everything before the
    range that it is told of is done, so that it may save its place as a checkpoint. Raises what any of the three raised,
    the first in that order: whatever comes before it has landed, and nothing is under way any more.
    """
    begun: asyncio.Queue[tuple[Range, asyncio.Task[T]] | Exception | None] = asyncio.Queue(_AHEAD * workers)
    free = asyncio.Semaphore(workers)
    tasks: set[asyncio.Task[Any]] = set()

    async def worked(found: Range) -> T:
        async with free:
            return await work(found)

    async def begin() -> None:
        try:
            while (found := await following()) is not None:
                task = asyncio.create_task(worked(found))
                tasks.add(task)
                await begun.put((found, task))
            await begun.put(None)
        except Exception as error:
            await begun.put(error)  # in its turn, after what was begun before it

    tasks.add(asyncio.create_task(begin()))
    try:
        while (first := await begun.get()) is not None:
            if isinstance(first, Exception):
                raise first
            found, task = first
            await landed(found, await task)
            tasks.discard(task)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
