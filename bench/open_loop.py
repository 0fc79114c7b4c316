"""Calls at a steady rate, whatever the earlier ones do, and how long they took: well below saturation, what is measured is
what else goes on beside them."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

Call = Callable[[int], Awaitable[None]]
"""One call; it is told which."""


async def latencies(call: Call, *, seconds: float, rate: float) -> list[float]:
    """One call every 1/rate seconds. In milliseconds."""
    taken: list[float] = []

    async def timed(turn: int) -> None:
        begun = time.perf_counter()
        await call(turn)
        taken.append((time.perf_counter() - begun) * 1000)

    start = time.perf_counter()
    async with asyncio.TaskGroup() as calls:
        for turn in range(int(seconds * rate)):
            await asyncio.sleep(max(0.0, start + turn / rate - time.perf_counter()))
            calls.create_task(timed(turn))
    return taken


def quantile(taken: Sequence[float], share: float) -> float:
    ordered = sorted(taken)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
