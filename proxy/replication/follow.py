"""Who follows the change stream: one replica at a time, by a lease in the legacy store. The others ask it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection, Mapping, Sequence
from typing import Final

import structlog

from adapters.mongo.beacons import Answer
from adapters.mongo.change_stream import StreamLost
from adapters.mongo.store import MongoStore
from adapters.side import SideError, SideName, Store
from proxy.flags.stages import Meaning
from proxy.flags.view import Flags
from proxy.metrics import Metrics
from proxy.replication.following import Following
from proxy.replication.repair import Repairs
from proxy.replication.replicator import Replicator
from proxy.replication.steps import Reached, unnoticed
from proxy.tasks import Tasks, first_ended

log = structlog.get_logger()

_NAME: Final = "follow"
_HELD: Final = 2.5
"""Seconds that the lease lasts without being renewed."""
_RENEW: Final = 0.5
_LAST_WORD: Final = 1.0
"""Seconds for giving the lease back."""
_START: Final = 3.0


class Follower:
    """This replica's part in following. What was written to legacy while nobody followed comes from the saved position on,
    whoever saved it; so from the first one on the stream is the record, in every replica."""

    def __init__(
        self,
        store: MongoStore,
        stores: Mapping[SideName, Store],
        entities: Collection[str],
        flags: Flags,
        replicator: Replicator,
        metrics: Metrics,
        *,
        replica: str,
        reached: Reached = unnoticed,
    ) -> None:
        """`entities`: those that others refer to come first."""
        self._store = store
        self._stores = stores
        self._entities = tuple(entities)
        self._flags = flags
        self._replicator = replicator
        self._metrics = metrics
        self.replica = replica
        self._reached = reached
        self._following: Following | None = None
        self._records = False
        self._decided = asyncio.Event()
        self._tasks = Tasks()
        metrics.following.set_function(lambda: float(self.leads))

    async def start(self, *, patience: float = _START) -> None:
        """Return once it is known whether writes need marks, or after so many seconds: a Mongo that is away does not keep the
        proxy from starting."""
        self._tasks.start("follow", self._run())
        try:
            async with asyncio.timeout(patience):
                await self._decided.wait()
        except TimeoutError:
            log.error("change_stream_away", replica=self.replica)

    async def stop(self) -> None:
        """End, and let another replica follow at once."""
        await self._tasks.stop()

    @property
    def leads(self) -> bool:
        """Whether this replica follows, and so settles what is written to legacy."""
        return self._following is not None

    @property
    def records(self) -> bool:
        """Whether the change stream is the record of what is written to legacy, whoever follows it."""
        return self._following.records if self._following else self._records

    def needs_mark(self, meaning: Meaning) -> bool:
        """Whether a write has to leave a mark. On legacy the change stream is the record of every write, whoever made it,
        from the moment that its position has been saved: a mark beside it would cost each client a second wait for the
        journal, and tell nothing new. Without the stream, and on prisma, the mark is the record."""
        return meaning.settles and not (meaning.primary == "legacy" and self.records)

    def settles(self, meaning: Meaning) -> bool:
        """Whether the follower, in another replica, settles what is written here, without being told."""
        return meaning.primary == "legacy" and self.records and not self.leads

    async def caught_up(self) -> None:
        """Return once every change committed before this call is with the replicator, of this replica or of the one that
        follows; that one has settled it, too, or tried. Bound it with a deadline. Raises Unavailable."""
        await self.heard(self._entities)

    async def heard(self, entities: Sequence[str]) -> Answer:
        """Return once every change committed before this call has been heard by who follows, and what it says then. Where
        this replica follows it is what its own memory says. Bound it with a deadline: somebody may follow any moment.
        Raises Unavailable."""
        while (following := self._following) is not None:
            try:
                await following.caught_up()
            except StreamLost:
                continue
            return following.answer(entities)
        return await self._store.beacons.ask(self.replica, entities)

    async def _run(self) -> None:
        while True:
            await self._look()
            if await self._lease():
                await self._lead()
            await asyncio.sleep(_RENEW * random.uniform(0.8, 1.2))

    async def _lead(self) -> None:
        following = self._following = self._begin()
        log.info("following", replica=self.replica)
        try:
            await first_ended(following.run(), self._renew())
            log.warning("following_ended", replica=self.replica)
        except Exception:
            log.exception("following_failed", replica=self.replica)
        finally:
            # Until the next look: who follows changes nothing about whether the stream is the record.
            self._records = following.records
            self._following = None
            await following.close()
            await self._release()

    def _begin(self) -> Following:
        repairs = Repairs(
            self._store.positions,
            self._stores,
            self._entities,
            self._flags,
            self._replicator,
            self._metrics,
            replica=self.replica,
        )
        return Following(
            self._store,
            self._entities,
            self._flags,
            self._replicator,
            repairs,
            self._metrics,
            replica=self.replica,
            records=self._records,
            decided=self._decided.set,
            reached=self._reached,
        )

    async def _lease(self) -> bool:
        """Whether the lease is this replica's now."""
        try:
            return await self._store.state.lease(_NAME, self.replica, _HELD)
        except SideError as error:
            log.debug("follow_lease_unknown", cause=str(error))
            return False

    async def _renew(self) -> None:
        """Returns when the lease is another's, or has run out while the store was away."""
        now = asyncio.get_running_loop().time
        until = now() + _HELD
        while True:
            await asyncio.sleep(_RENEW)
            begun = now()
            try:
                async with asyncio.timeout_at(until):
                    if not await self._store.state.lease(_NAME, self.replica, _HELD):
                        return
                until = begun + _HELD
            except (SideError, TimeoutError) as error:
                log.debug("follow_lease_unknown", cause=str(error))
                if now() >= until:
                    return

    async def _release(self) -> None:
        try:
            async with asyncio.timeout(_LAST_WORD):
                await self._store.state.release(_NAME, self.replica)
        except (SideError, TimeoutError) as error:
            log.warning("follow_lease_left", cause=str(error) or "no answer in time")

    async def _look(self) -> None:
        """See what the others need to know of who follows."""
        try:
            saved = await self._store.positions.load()
        except SideError as error:
            log.debug("position_unread", cause=str(error))
            return
        self._records = saved.records
        if saved.records or saved.lost:
            self._decided.set()
