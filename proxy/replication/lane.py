"""A lane: the keys of one entity that wait to be settled, are being settled, or were refused and wait by themselves."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from adapters.side import Key, SideName

_REMEMBERED: Final = 10_000


@dataclass(eq=False, slots=True)
class OutboxMark:
    """A mark in the outbox of a side, and the keys that have to settle before it may go."""

    side: SideName
    id: str
    keys: set[Key]


@dataclass(slots=True)
class Dirty:
    """A key to settle: since when (loop time), and the marks whose writes have finished. `clock`: all that is known of it
    is a change at that time of the primary; a settle that has read it since speaks for this one. `heard` is the place of
    its first change among those that the lane has heard of."""

    since: float
    marks: set[OutboxMark] = field(default_factory=set)
    tries: int = 0
    clock: Any = None
    heard: int = 0


class Lane:
    """Keys coalesce: ten writes of one need one settle."""

    def __init__(self) -> None:
        self.waiting: dict[Key, Dirty] = {}
        self.flying: dict[Key, Dirty] = {}
        self.parked: dict[Key, Dirty] = {}
        self.covered: OrderedDict[Key, Any] = OrderedDict()
        self.changes = 0
        self.ready = asyncio.Event()
        self.progress = asyncio.Event()

    def __contains__(self, key: Key) -> bool:
        return key in self.waiting or key in self.flying or key in self.parked

    def __len__(self) -> int:
        return len(self.waiting) + len(self.flying) + len(self.parked)

    def hear(self, key: Key, dirty: Dirty) -> None:
        """A key has changed."""
        self.changes += 1
        dirty.heard = self.changes
        self.put(key, dirty)

    def put(self, key: Key, dirty: Dirty) -> None:
        """Let it wait to be settled, together with what else is known of the key."""
        parked = self.parked.pop(key, None)
        for other in (self.waiting.get(key), parked):
            if other and other is not dirty:
                dirty = _together(other, dirty)
        self.waiting[key] = dirty
        self.ready.set()

    def take(self, most: int) -> dict[Key, Dirty]:
        keys = list(islice(self.waiting, most))
        self.flying = {key: self.waiting.pop(key) for key in keys}
        if not self.waiting:
            self.ready.clear()
        return self.flying

    def landed(self) -> None:
        self.flying = {}
        self.moved()

    def moved(self) -> None:
        """Something has settled, or found its place: whoever waits may look."""
        done, self.progress = self.progress, asyncio.Event()
        done.set()

    def park(self, key: Key, dirty: Dirty) -> None:
        self.parked[key] = dirty

    def unpark(self, key: Key, dirty: Dirty) -> None:
        """End the wait of this one, if it is still the one that waits."""
        if self.parked.get(key) is dirty:
            del self.parked[key]
            self.put(key, dirty)

    def cover(self, keys: Iterable[Key], clock: Any) -> None:
        """A settle has read these keys at that time of the primary: changes up to it need no other one."""
        for key in keys:
            self.covered[key] = clock
            self.covered.move_to_end(key)
            waiting = self.waiting.get(key)
            if waiting and waiting.clock and waiting.clock <= clock:
                del self.waiting[key]
        if not self.waiting:
            self.ready.clear()
        while len(self.covered) > _REMEMBERED:
            self.covered.popitem(last=False)

    def has_read(self, key: Key, clock: Any) -> bool:
        """Whether a settle has read this key at or after that time of the primary."""
        seen = self.covered.get(key)
        return seen is not None and clock is not None and bool(clock <= seen)

    def of(self, key: Key) -> Iterator[Dirty]:
        """All that is known of the key."""
        return (place[key] for place in self._places(parked=True) if key in place)

    async def passed(self, keys: Iterable[Key] | None = None, *, parked: bool = True) -> None:
        """Return once what has been heard so far, of these keys or of all, has left: later changes are not waited for, nor
        without `parked` what waits by itself. Bound it with a deadline."""
        heard = self.changes
        asked = None if keys is None else tuple(keys)
        while any(_holds(place, asked, heard) for place in self._places(parked)):
            await self.progress.wait()

    def _places(self, parked: bool) -> tuple[dict[Key, Dirty], ...]:
        return (self.waiting, self.flying, self.parked) if parked else (self.waiting, self.flying)


def _holds(place: Mapping[Key, Dirty], keys: Iterable[Key] | None, heard: int) -> bool:
    if keys is None:
        return any(dirty.heard <= heard for dirty in place.values())
    return any(key in place and place[key].heard <= heard for key in keys)


def _together(one: Dirty, other: Dirty) -> Dirty:
    """What is known of a key from two sides. Its tries begin again: one of the two is a change."""
    return Dirty(
        min(one.since, other.since),
        one.marks | other.marks,
        min(one.tries, other.tries),
        one.clock and other.clock and max(one.clock, other.clock),
        min(one.heard, other.heard),
    )
