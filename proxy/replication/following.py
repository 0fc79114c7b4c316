"""Following the change stream, while this replica is the one that does: from the saved position on, each change to whoever
settles it, and the position after what has settled."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Collection
from typing import Final

import structlog

from adapters.mongo.change_stream import Cause, ChangeStream, StreamLost
from adapters.mongo.store import MongoStore
from adapters.mongo.stream_events import Beacon, Change
from adapters.side import SideError, Unavailable
from proxy.flags.lease import now
from proxy.flags.view import Flags
from proxy.metrics import Metrics
from proxy.replication.answering import Answering
from proxy.replication.foreign import Foreign
from proxy.replication.repair import Repairs
from proxy.replication.replicator import Replicator
from proxy.replication.steps import Reached
from proxy.replication.unheeded import Unheeded
from proxy.tasks import first_ended

log = structlog.get_logger()

_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 10.0
_HEED_EVERY: Final = 0.1
_SAVE_EVERY: Final = 1.0
"""Seconds between two saves of the position; a crash follows again from the last one, and settling twice is harmless."""

_ADVICE: Final[dict[Cause, str]] = {
    "too_old": "the saved position has fallen off the oplog: changes may have been missed, so every key of every entity is"
    " settled again now; a larger oplog survives a longer time without a follower",
    "invalidated": "the legacy database was dropped: every key of every entity is settled again now",
    "unauthorised": "this MongoDB user may not open a change stream: grant it the role `read` on the database; until then"
    " each write leaves a mark, and what bypasses the proxy is not seen",
    "unsupported": "a standalone MongoDB has no change streams: run it as a replica set (one node is enough); until then"
    " each write leaves a mark, and what bypasses the proxy is not seen",
    "refused": "the server refuses the change stream; it is tried again, and until then each write leaves a mark",
}


class Displaced(Exception):
    """Another replica follows now."""


class Following:
    """One replica's time as the follower. `records`: the stream is the record of what is written to legacy; whether it has
    been so far does not change by who follows it.

    `decided` is called when that is known, one way or the other.
    """

    def __init__(
        self,
        store: MongoStore,
        entities: Collection[str],
        flags: Flags,
        replicator: Replicator,
        repairs: Repairs,
        metrics: Metrics,
        *,
        replica: str,
        records: bool,
        decided: Callable[[], None],
        reached: Reached,
    ) -> None:
        self._store = store
        self._entities = entities
        self._flags = flags
        self._replicator = replicator
        self._repairs = repairs
        self._metrics = metrics
        self._replica = replica
        self._decided = decided
        self._reached = reached
        self._answering = Answering(store.beacons, entities, replicator, repairs, metrics, replica=replica)
        self._foreign = Foreign(flags, metrics)
        self._unheeded = Unheeded(flags, metrics)
        self._stream: ChangeStream | None = None
        self._open_or_over = asyncio.Event()
        self._failures = 0
        self.answer = self._answering.now
        self.records = records

    async def run(self) -> None:
        """Follow, whatever happens to the stream, until another replica does."""
        with contextlib.suppress(Displaced):
            await first_ended(self._follow(), self._repairs.run())

    async def close(self) -> None:
        """Whoever waits is told StreamLost."""
        self._open_or_over.set()
        await self._leave_stream()
        await self._answering.stop()

    async def caught_up(self) -> None:
        """Return once every change committed before this call is with the replicator. Bound it with a deadline. Raises
        StreamLost where this stream ends, Unavailable."""
        await self._open_or_over.wait()
        stream = self._stream
        if stream is None:
            raise StreamLost("closed")
        try:
            await stream.barrier()
        except StreamLost:
            if self._stream is stream:  # the next one waits for the next stream
                self._open_or_over.clear()
            raise

    async def _follow(self) -> None:
        missed = False
        while True:
            try:
                stream = await self._open(anew=missed)
                missed = False
                await first_ended(self._hear(stream), self._keep(stream))
            except SideError as error:
                missed = missed or (isinstance(error, StreamLost) and error.missed)
                await self._failed(error)

    async def _open(self, *, anew: bool) -> ChangeStream:
        if anew:
            await self._store.connect()  # a database that was dropped has lost our collections and indexes as well
        saved = await self._store.positions.claim(self._replica)
        self._repairs.needed(entity for entity in saved.repair if not self._repairs.pending(entity))
        stream = self._store.changes(replica=self._replica, resume=None if anew else saved.position)
        await stream.open()
        assert stream.position is not None
        if anew or saved.position is None:
            # Nobody knows what was written before the first position to what settles already.
            missed = [entity for entity in self._entities if anew or self._flags.meaning(entity).settles]
            await self._check(await self._store.positions.restart(self._replica, stream.position, missed))
            self._repairs.needed(missed)
        self._stream = stream
        self._open_or_over.set()
        return stream

    async def _hear(self, stream: ChangeStream) -> None:
        async for heard in stream:
            if isinstance(heard, Beacon):
                self._answering.take(heard)
            elif self._flags.meaning(heard.entity).settles:
                await self._changed(heard, stream)
            elif heard.key is not None:
                self._unheeded.add(heard.entity, heard.key)

    async def _changed(self, change: Change, stream: ChangeStream) -> None:
        if self._flags.meaning(change.entity).primary == "prisma":
            await self._foreign.heard(change, stream)
        if change.key is not None:
            of_primary = self._flags.meaning(change.entity).primary == "legacy"
            await self._replicator.followed(change.entity, change.key, change.clock if of_primary else None)
        elif change.kind == "unreadable":
            # A document whose id is no key: nothing that settling could copy.
            log.error("change_without_key", entity=change.entity, kind=change.kind)
        else:
            log.critical(
                "collection_changed", entity=change.entity, kind=change.kind, advice="every key is settled again"
            )
            await self._check(await self._store.positions.damaged(self._replica, change.entity))
            self._repairs.needed([change.entity])

    async def _keep(self, stream: ChangeStream) -> None:
        """Save the position, only ever after the keys before it have settled. From the first one on that the server takes
        the stream is the record."""
        await stream.reading.wait()
        await self._found()
        saved = stream.position
        while True:
            await asyncio.sleep(_SAVE_EVERY)
            position = stream.position
            if position is None or position == saved:
                continue
            try:
                await self._heed(now())
                await self._replicator.drained()
                await self._check(await self._store.positions.save(self._replica, position))
                saved = position
                await self._reached("position_saved")
            except Unavailable as error:
                log.warning("position_unsaved", cause=str(error))

    async def _heed(self, moment: float) -> None:
        """Return once what was heard before that moment is with the replicator, or surely settles nothing."""
        while True:
            for entity, key in self._unheeded.take():
                await self._replicator.followed(entity, key, None)
            if not self._unheeded.some_before(moment):
                return
            await asyncio.sleep(_HEED_EVERY)

    async def _found(self) -> None:
        await self._check(await self._store.positions.lose(self._replica, None))
        self.records = True
        self._failures = 0
        self._decided()

    async def _failed(self, error: SideError) -> None:
        """Say what happened, once and loudly where an engineer has to act, and wait a while."""
        self.records = False
        self._open_or_over.clear()
        await self._leave_stream()
        self._failures += 1
        self._metrics.stream_restarts.inc()
        if not isinstance(error, StreamLost):
            log.error("change_stream_away", cause=str(error), failures=self._failures)
        elif self._failures == 1 or error.missed:
            advice = _ADVICE.get(error.cause)
            log.critical("change_stream_lost", cause=str(error), keys_missed=error.missed, advice=advice)
        if isinstance(error, StreamLost) and not error.missed:
            await self._lose(error)
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(self._failures - 1, 10))
        await asyncio.sleep(pause * random.uniform(0.5, 1.0))

    async def _lose(self, error: StreamLost) -> None:
        """Nobody can follow now: the other replicas have to know, for their writes need marks."""
        try:
            await self._check(await self._store.positions.lose(self._replica, error.cause))
        except Unavailable as unsaid:
            log.warning("position_unsaved", cause=str(unsaid))
        self._decided()

    async def _leave_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            with contextlib.suppress(SideError):
                await stream.close()

    async def _check(self, ours: bool) -> None:
        """Raises Displaced where the position is not ours any more; where it is nobody's, the database has been dropped."""
        if not ours:
            saved = await self._store.positions.load()
            raise Displaced if saved.position else StreamLost("invalidated", "the saved position is gone")
