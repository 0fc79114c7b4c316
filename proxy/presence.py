"""This replica's presence: it tells both stores that it lives, and which epoch of each flag it has acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final

import structlog

from adapters.side import Flag, Replica, SideError, Store
from proxy.flags import Flags
from proxy.follow import Follower
from proxy.gate import Gate
from proxy.replicator import Replicator
from proxy.tasks import Tasks

log = structlog.get_logger()

BEAT: Final = 1.0
LEASE: Final = 5.0
"""Seconds of silence after which a replica counts as gone."""
_DEADLINE: Final = 1.0


class Presence:
    """While a flag is fenced: hold new writes, finish those in flight, settle what they left, then acknowledge."""

    def __init__(
        self,
        id: str,
        flags: Flags,
        gates: Mapping[str, Gate],
        replicator: Replicator,
        follower: Follower,
        stores: Iterable[Store],
    ) -> None:
        self._id = id
        self._flags = flags
        self._gates = gates
        self._replicator = replicator
        self._follower = follower
        self._stores = tuple(stores)
        self._epochs = {entity: flags[entity].epoch for entity in gates}
        self._drains: dict[str, asyncio.Task[None]] = {}
        self._told = asyncio.Event()
        self._tasks = Tasks()
        flags.listen(self._changed)

    def start(self) -> None:
        self._tasks.start("presence", self._run())

    async def stop(self) -> None:
        """Leave the registry, so that no flip waits for this replica."""
        await self._tasks.stop()
        await self._tell(lambda store: store.state.forget_replica(self._id))

    def _changed(self, before: Flag, after: Flag) -> None:
        entity = after.entity
        drain = self._drains.pop(entity, None)
        if drain:
            drain.cancel()
        if after.target is None:
            self._gates[entity].release()
            self._acknowledge(after)
            if after.stage != before.stage:
                log.info("flag_changed", entity=entity, before=before.stage, after=after.stage, epoch=after.epoch)
        else:
            # Held before anything else runs: from here no write of this replica begins under the old flag.
            self._gates[entity].hold()
            self._drains[entity] = self._tasks.start(f"drain-{entity}", self._drain(after))

    async def _drain(self, flag: Flag) -> None:
        try:
            await self._gates[flag.entity].drained()
            if self._flags.meaning(flag.entity).primary == "legacy":
                await self._follower.caught_up()
            await self._replicator.settled(flag.entity)
        except SideError as error:
            # Not acknowledged: the flip goes back when its deadline passes.
            log.error("drain_failed", entity=flag.entity, epoch=flag.epoch, cause=str(error))
        else:
            self._acknowledge(flag)

    def _acknowledge(self, flag: Flag) -> None:
        self._epochs[flag.entity] = flag.epoch
        self._told.set()

    async def _run(self) -> None:
        while True:
            self._told.clear()
            await self._tell(lambda store: store.state.beat(Replica(self._id, dict(self._epochs))))
            try:
                async with asyncio.timeout(BEAT):
                    await self._told.wait()
            except TimeoutError:
                continue

    async def _tell(self, say: Callable[[Store], Awaitable[None]]) -> None:
        """Both stores at once; one that is away hears of it with the next beat."""

        async def one(store: Store) -> None:
            try:
                async with asyncio.timeout(_DEADLINE):
                    await say(store)
            except (SideError, TimeoutError) as error:
                log.debug("presence_untold", cause=str(error))

        await asyncio.gather(*(one(store) for store in self._stores))
