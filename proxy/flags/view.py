"""This replica's view of every entity's flag: both stores are watched, and the highest epoch that either knows wins."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import structlog

from adapters.side import Flag, SideError, SideName, Store
from config.model import Entity, Stage
from proxy.flags.arbiter import Arbiter
from proxy.flags.both import DEADLINE, GRACE, ask_both, within
from proxy.flags.lease import now
from proxy.flags.stages import MEANINGS, Meaning
from proxy.tasks import Tasks

log = structlog.get_logger()

REFRESH: Final = 0.1
"""Seconds between two looks at a store. A flip holds writes from when the first replica sees it until the last one has."""
_REFRESH_FENCED: Final = 0.02
"""The same while a flip holds writes: its clients are waiting."""
HOLD: Final = 5.0
"""Seconds that a flip may hold writes, unless the configuration says otherwise."""
DECIDED: Final = 0.8
"""Part of the hold in which its coordinator decides a flip, or takes its fence back."""
ABANDONED: Final = 0.9
"""Part of the hold after which a fence that still stands has been abandoned; what is left is for taking it back."""
_TAKE_BACK_AGAIN: Final = 0.5

Listener = Callable[[Flag, Flag], None]


def configured(entities: Mapping[str, Entity]) -> dict[str, Flag]:
    """The flags before anybody set one: epoch 0, as the configuration file says."""
    return {
        name: Flag(name, entity.stage.value, epoch=0, serve=entity.serve, sample=entity.sample)
        for name, entity in entities.items()
    }


def newest(flags: Iterable[Flag], known: Mapping[str, Flag]) -> dict[str, Flag]:
    """`known`, each replaced where there is a later epoch. Flags of entities not configured are left out. Of two copies of
    one flag the older one counts: it tells better how long a fence has stood."""
    latest = dict(known)
    for flag in flags:
        if flag.entity in latest and (flag.epoch, flag.age) > (latest[flag.entity].epoch, latest[flag.entity].age):
            latest[flag.entity] = flag
    return latest


async def read_flags(stores: Mapping[SideName, Store]) -> list[Flag]:
    """What the stores say, together; a store that is away is left out. Raises SideError when none answers."""
    answers = await ask_both(stores, lambda _, store: store.state.flags())
    return [flag for answer in answers.values() for flag in answer]


class Flags:
    """What each entity's stage is now. Reading it costs nothing and never waits.

    Each store is watched by a loop of its own, so that one that hangs does not delay what is seen through the other. Every
    replica mends what a coordinator left behind when it died: a store that has not heard of a flag gets a copy, and a
    fence that outlived its coordinator is taken back.
    """

    def __init__(
        self, entities: Mapping[str, Entity], stores: Mapping[SideName, Store], *, hold: float = HOLD, who: str = ""
    ) -> None:
        """`hold`: seconds that a flip may last. `who` takes back what was abandoned."""
        self._stores = stores
        self._arbiter = Arbiter(stores)
        self._abandoned = hold * ABANDONED
        self._who = who
        self._flags = configured(entities)
        self._meanings = {name: MEANINGS[Stage(flag.stage)] for name, flag in self._flags.items()}
        self._listeners: list[Listener] = []
        self._fenced = asyncio.Event()
        self._behind: dict[SideName, set[str]] = {side: set() for side in stores}
        self._taking_back: set[str] = set()
        self._tasks = Tasks()
        self.looked = -math.inf
        """When the newest look that succeeded was begun, by `proxy.flags.lease.now`."""

    def __getitem__(self, entity: str) -> Flag:
        return self._flags[entity]

    def meaning(self, entity: str) -> Meaning:
        return self._meanings[entity]

    def listen(self, listener: Listener) -> None:
        """Be called with the flag before and after each change, at once and before any other task sees the new one."""
        self._listeners.append(listener)

    async def refresh(self, *, grace: float = GRACE) -> None:
        """Look at both stores now; of one that hangs the answer is not waited for, `grace` seconds after the other one's.
        Raises SideError when neither answers; the view stays as it was."""
        await ask_both(self._stores, lambda side, _: self._look(side), grace=grace)

    def start(self) -> None:
        for place, side in enumerate(self._stores):
            self._tasks.start(f"flags-{side}", self._watch(side, REFRESH * place / len(self._stores)))

    async def stop(self) -> None:
        await self._tasks.stop()

    async def _look(self, side: SideName) -> list[Flag]:
        begun = now()
        flags = await self._stores[side].state.flags()
        self._learn(flags)
        self.looked = max(self.looked, begun)
        return flags

    def _learn(self, flags: Iterable[Flag]) -> None:
        for flag in flags:
            before = self._flags.get(flag.entity)
            if before is None or flag.epoch <= before.epoch:
                continue
            self._flags[flag.entity] = flag
            self._meanings[flag.entity] = MEANINGS[Stage(flag.stage)]
            for listener in self._listeners:
                listener(before, flag)
        if any(flag.target for flag in self._flags.values()):
            self._fenced.set()
        else:
            self._fenced.clear()

    async def _watch(self, side: SideName, phase: float) -> None:
        """The loops take turns, so that what both stores know is seen in half the time."""
        failures = 0
        while True:
            await self._pause(phase)
            try:
                flags = await within(DEADLINE, self._look(side))
                await self._spread(side, flags)
            except SideError as error:
                # The last known stage holds; said once, not four times a second.
                failures += 1
                if failures == 1:
                    log.error("flags_unreadable", side=side, cause=str(error))
                continue
            if failures:
                log.info("flags_readable", side=side, failures=failures)
                failures = 0
            self._find_abandoned(flags)

    async def _pause(self, phase: float) -> None:
        if self._fenced.is_set():
            await asyncio.sleep(_REFRESH_FENCED)
            return
        try:
            async with asyncio.timeout(REFRESH - (asyncio.get_running_loop().time() - phase) % REFRESH):
                await self._fenced.wait()
        except TimeoutError:
            return

    async def _spread(self, side: SideName, answered: Iterable[Flag]) -> None:
        """Anti-entropy: a store that is twice in a row found without the newest flag is told."""
        known = {flag.entity: flag.epoch for flag in answered}
        behind = {name for name, flag in self._flags.items() if flag.epoch > known.get(name, 0)}
        late, self._behind[side] = behind & self._behind[side], behind
        for entity in late:
            await self._arbiter.tell(self._flags[entity], side)
            log.info("flag_spread", entity=entity, epoch=self._flags[entity].epoch, side=side)

    def _find_abandoned(self, answered: Iterable[Flag]) -> None:
        for flag in answered:
            known = self._flags.get(flag.entity)
            stands = known is not None and known.epoch == flag.epoch and flag.target is not None
            if stands and flag.age > self._abandoned and flag.entity not in self._taking_back:
                self._taking_back.add(flag.entity)
                self._tasks.start(f"take-back-{flag.entity}", self._take_back(flag))

    async def _take_back(self, flag: Flag) -> None:
        try:
            # Every replica finds it in the same moment: one of them is enough.
            await asyncio.sleep(random.uniform(0.0, 0.1))
            if self._flags[flag.entity].epoch == flag.epoch:
                await self._arbiter.take_back(flag, self._who, cause="abandoned")
        except SideError as error:
            log.warning("fence_not_taken_back", entity=flag.entity, epoch=flag.epoch, cause=str(error))
            await asyncio.sleep(_TAKE_BACK_AGAIN * random.uniform(0.5, 1.0))
        finally:
            self._taking_back.discard(flag.entity)
