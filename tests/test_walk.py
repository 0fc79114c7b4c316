"""Walking in ranges: several at once, landing in order, and nothing lost where one fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from adapters.side import Range
from proxy.migration.run.walk import walk


class Ranges:
    """So many ranges of one key each; `given` counts those that were asked for."""

    def __init__(self, number: int, *, failing_at: int | None = None) -> None:
        self._numbers = iter(range(number))
        self._failing_at = failing_at
        self.given = 0

    async def __call__(self) -> Range | None:
        await asyncio.sleep(0)
        if self.given == self._failing_at:
            raise LookupError("no more can be found")
        number = next(self._numbers, None)
        if number is None:
            return None
        self.given += 1
        return Range((str(number),), str(number))


async def test_nothing_is_a_walk_too() -> None:
    landed: list[str] = []
    await walk(Ranges(0), lambda found: _later(found.upto), _into(landed), workers=2)
    assert landed == []


async def test_ranges_land_in_order_whichever_ends_first() -> None:
    """The first one ends last."""
    landed: list[str] = []
    others = asyncio.Event()
    ended: list[str] = []

    async def work(found: Range) -> str:
        if found.upto == "0":
            await others.wait()
        ended.append(found.upto)
        if len(ended) == 2:
            others.set()
        return found.upto

    async with asyncio.timeout(10):
        await walk(Ranges(5), work, _into(landed), workers=2)
    assert ended[0] != "0"
    assert landed == ["0", "1", "2", "3", "4"]


async def test_no_more_are_worked_on_at_once_than_there_are_workers() -> None:
    at_once: list[int] = []
    working = 0

    async def work(found: Range) -> str:
        nonlocal working
        working += 1
        at_once.append(working)
        for _ in range(20):
            await asyncio.sleep(0)
        working -= 1
        return found.upto

    await walk(Ranges(40), work, _into([]), workers=3)
    assert max(at_once) == 3


async def test_what_has_been_begun_and_not_landed_is_bounded() -> None:
    """While the first range does not end no more than a few others are even looked for."""
    ranges, go_on = Ranges(1000), asyncio.Event()
    landed: list[str] = []

    async def work(found: Range) -> str:
        if found.upto == "0":
            await go_on.wait()
        return found.upto

    walking = asyncio.create_task(walk(ranges, work, _into(landed), workers=2))
    before = -1
    while ranges.given != before:
        before = ranges.given
        for _ in range(100):
            await asyncio.sleep(0)
    assert ranges.given < 10
    assert landed == []
    go_on.set()
    await walking
    assert len(landed) == 1000


async def test_what_came_before_a_failure_has_landed_and_nothing_is_under_way_after_it() -> None:
    landed: list[str] = []
    cancelled: list[str] = []
    later = asyncio.Event()

    async def work(found: Range) -> str:
        if found.upto == "3":
            await later.wait()
            raise ValueError("cannot be worked on")
        if found.upto > "3":
            later.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(found.upto)
                raise
        return found.upto

    before = asyncio.all_tasks()
    with pytest.raises(ValueError, match="cannot be worked on"):
        await walk(Ranges(9), work, _into(landed), workers=3)
    assert landed == ["0", "1", "2"]
    assert cancelled
    assert asyncio.all_tasks() == before


async def test_ranges_that_cannot_be_found_fail_after_those_before_them() -> None:
    landed: list[str] = []
    with pytest.raises(LookupError):
        await walk(Ranges(9, failing_at=4), lambda found: _later(found.upto), _into(landed), workers=2)
    assert landed == ["0", "1", "2", "3"]


async def test_a_failure_to_land_ends_it() -> None:
    landed: list[str] = []

    async def land(found: Range, _: str) -> None:
        if found.upto == "2":
            raise ValueError("cannot be kept")
        landed.append(found.upto)

    with pytest.raises(ValueError, match="cannot be kept"):
        await walk(Ranges(9), lambda found: _later(found.upto), land, workers=2)
    assert landed == ["0", "1"]


async def test_a_walk_that_is_cancelled_leaves_nothing_behind() -> None:
    begun = asyncio.Event()

    async def work(_: Range) -> str:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError("never gets here")

    before = asyncio.all_tasks()
    walking = asyncio.create_task(walk(Ranges(9), work, _into([]), workers=3))
    await begun.wait()
    walking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await walking
    assert asyncio.all_tasks() == before


async def _later(text: str) -> str:
    await asyncio.sleep(0)
    return text


def _into(landed: list[str]) -> Callable[[Range, str], Awaitable[None]]:
    async def land(found: Range, result: str) -> None:
        assert found.upto == result
        landed.append(result)

    return land
