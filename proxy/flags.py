"""This replica's view of every entity's flag, refreshed from both stores: the highest epoch that either knows wins."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import structlog

from adapters.side import Flag, SideError, Store
from config.model import Entity, Stage
from proxy.stages import MEANINGS, Meaning
from proxy.tasks import Tasks

log = structlog.get_logger()

REFRESH: Final = 0.25
"""Seconds between two looks at the stores: a change is seen within one second."""
_REFRESH_FENCED: Final = 0.02
"""The same while a flip holds writes: its clients are waiting."""
_DEADLINE: Final = 2.0

Listener = Callable[[Flag, Flag], None]


def configured(entities: Mapping[str, Entity]) -> dict[str, Flag]:
    """The flags before anybody set one: epoch 0, as the configuration file says."""
    return {
        name: Flag(name, entity.stage.value, epoch=0, serve=entity.serve, sample=entity.sample)
        for name, entity in entities.items()
    }


def newest(flags: Iterable[Flag], known: Mapping[str, Flag]) -> dict[str, Flag]:
    """`known`, each replaced where the stores hold a later epoch. Flags of entities not configured are left out."""
    latest = dict(known)
    for flag in flags:
        if flag.entity in latest and flag.epoch > latest[flag.entity].epoch:
            latest[flag.entity] = flag
    return latest


async def read_flags(stores: Iterable[Store]) -> list[Flag]:
    """What the stores say, together; a store that is away is left out. Raises SideError when none answers."""
    answers = await asyncio.gather(*(_within(store) for store in stores), return_exceptions=True)
    found = [answer for answer in answers if not isinstance(answer, BaseException)]
    if not found:
        raise SideError("neither store answers")
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, SideError | TimeoutError):
            raise answer
    return [flag for answer in found for flag in answer]


async def _within(store: Store) -> list[Flag]:
    async with asyncio.timeout(_DEADLINE):
        return await store.state.flags()


class Flags:
    """What each entity's stage is now. Reading it costs nothing and never waits."""

    def __init__(self, entities: Mapping[str, Entity], stores: Iterable[Store]) -> None:
        self._stores = tuple(stores)
        self._flags = configured(entities)
        self._meanings = {name: MEANINGS[Stage(flag.stage)] for name, flag in self._flags.items()}
        self._listeners: list[Listener] = []
        self._tasks = Tasks()
        self._blind = False

    def __getitem__(self, entity: str) -> Flag:
        return self._flags[entity]

    def meaning(self, entity: str) -> Meaning:
        return self._meanings[entity]

    def listen(self, listener: Listener) -> None:
        """Be called with the flag before and after each change, at once and before any other task sees the new one."""
        self._listeners.append(listener)

    async def refresh(self) -> None:
        """Look at the stores now. Raises SideError when neither answers; the view stays as it was."""
        latest = newest(await read_flags(self._stores), self._flags)
        for entity, flag in latest.items():
            before = self._flags[entity]
            if flag is not before:
                self._flags[entity] = flag
                self._meanings[entity] = MEANINGS[Stage(flag.stage)]
                for listener in self._listeners:
                    listener(before, flag)

    def start(self) -> None:
        self._tasks.start("flags", self._run())

    async def stop(self) -> None:
        await self._tasks.stop()

    async def _run(self) -> None:
        while True:
            fenced = any(flag.target for flag in self._flags.values())
            await asyncio.sleep(_REFRESH_FENCED if fenced else REFRESH)
            try:
                await self.refresh()
                self._blind = False
            except SideError as error:
                # The last known stage holds; said once, not four times a second.
                if not self._blind:
                    log.error("flags_unreadable", cause=str(error))
                self._blind = True
