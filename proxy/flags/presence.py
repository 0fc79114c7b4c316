"""This replica's presence: it tells both stores that it lives, and which epoch of each flag it has acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

import structlog

from adapters.side import Flag, Replica, SideError, SideName, Store
from proxy.flags.both import within
from proxy.flags.gate import Gate
from proxy.flags.lease import Lease, now
from proxy.flags.tally import Tally
from proxy.flags.view import Flags
from proxy.tasks import Tasks

log = structlog.get_logger()

BEAT: Final = 0.5
"""Seconds between two beats."""
_DEADLINE: Final = 1.0
_START: Final = 2.0


class Presence:
    """While a flag is fenced: hold new writes, finish those in flight, then acknowledge. What is left to settle then is the
    coordinator's to see: it drains after the acknowledgements."""

    def __init__(
        self,
        id: str,
        flags: Flags,
        gates: Mapping[str, Gate],
        stores: Mapping[SideName, Store],
        lease: Lease,
        tally: Tally,
    ) -> None:
        self._id = id
        self._flags = flags
        self._gates = gates
        self._stores = stores
        self._lease = lease
        self._tally = tally
        self._epochs = {entity: flags[entity].epoch for entity in gates}
        self._drains: dict[str, asyncio.Task[None]] = {}
        self._told = {side: asyncio.Event() for side in stores}
        self._registered = asyncio.Event()
        self._leaving = False
        self._held = False
        self._beats: list[asyncio.Task[None]] = []
        self._tasks = Tasks()
        flags.listen(self._changed)

    async def start(self) -> None:
        """Register, then look at the flags; returns when the lease is held, or when no store has confirmed a beat in time:
        then writes are refused until one does."""
        for side, store in self._stores.items():
            self._beats.append(self._tasks.start(f"presence-{side}", self._beat(side, store)))
        try:
            async with asyncio.timeout(_START):
                await self._registered.wait()
            await self._flags.refresh(grace=0)
        except (SideError, TimeoutError) as error:
            log.error("not_registered", replica=self._id, cause=str(error) or "no answer in time")

    def holds(self) -> bool:
        """Whether writes are acknowledged now."""
        return self._lease.tenure() is not None

    async def stop(self) -> None:
        """Leave both registries, so that no flip waits for this replica. From here it acknowledges nothing."""
        self._leaving = True
        self._lease.give_up()
        for told in self._told.values():
            told.set()
        if self._beats:
            # A beat that is on its way would put back what is about to be forgotten.
            await asyncio.wait(self._beats, timeout=_DEADLINE)
        await self._tasks.stop()
        await asyncio.gather(*(self._leave(side, store) for side, store in self._stores.items()))

    async def _leave(self, side: SideName, store: Store) -> None:
        try:
            await within(_DEADLINE, store.state.forget_replica(self._id))
        except SideError as error:
            log.warning("registry_not_left", side=side, cause=str(error))

    def _changed(self, before: Flag, after: Flag) -> None:
        entity = after.entity
        drain = self._drains.pop(entity, None)
        if drain:
            drain.cancel()
        if after.target is None:
            self._gates[entity].release()
            self._acknowledge(after)
        else:
            # Held before anything else runs: from here no write of this replica begins under the old flag.
            self._gates[entity].hold()
            self._drains[entity] = self._tasks.start(f"drain-{entity}", self._drain(after))
        if after.target is None and after.stage != before.stage:
            log.info("flag_changed", entity=entity, before=before.stage, after=after.stage, epoch=after.epoch)

    async def _drain(self, flag: Flag) -> None:
        await self._gates[flag.entity].drained()
        self._acknowledge(flag)

    def _acknowledge(self, flag: Flag) -> None:
        self._epochs[flag.entity] = flag.epoch
        for told in self._told.values():
            told.set()

    async def _beat(self, side: SideName, store: Store) -> None:
        """One loop a store: one that hangs does not delay the other one's beats."""
        told, failures = self._told[side], 0
        while not self._leaving:
            told.clear()
            begun = now()
            replica = Replica(self._id, dict(self._epochs), self._tally.lately(begun))
            try:
                await within(_DEADLINE, store.state.beat(replica))
            except SideError as error:
                failures += 1
                if failures == 1:
                    log.warning("beat_unconfirmed", side=side, cause=str(error))
            else:
                failures = 0
                if not self._leaving:
                    self._lease.confirm(begun)
                    self._registered.set()
            self._say()
            await self._until_told(told)

    def _say(self) -> None:
        held, self._held = self._held, self.holds()
        if held and not self._held and not self._leaving:
            log.error("lease_lost", replica=self._id)
        elif self._held and not held:
            log.info("lease_held", replica=self._id)

    @staticmethod
    async def _until_told(told: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(BEAT):
                await told.wait()
        except TimeoutError:
            return
