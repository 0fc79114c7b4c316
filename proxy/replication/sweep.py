"""The sweep of one store: what others left behind in it. Marks whose writer is gone, refused keys whose time has come,
replicas that fell silent. One replica at a time sweeps a store, by a lease in that store; every replica offers itself."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final

import structlog

from adapters.side import Backlog, Key, Mark, Refusal, SideError, SideName, Store
from proxy.flags.lease import LEASE
from proxy.flags.view import Flags
from proxy.metrics import Metrics
from proxy.replication.quarantine import Quarantines, reason_of
from proxy.replication.replicator import Replicator
from proxy.replication.settle import Parents, Settler
from proxy.tasks import Tasks

log = structlog.get_logger()

_NAME: Final = "sweep"
_HELD: Final = 2.5
"""Seconds that the lease lasts; each look renews it. Past them another replica sweeps: well within the time that a flip
has, which waits for the marks that a dead replica left. Where a look took longer two may sweep: settling twice is
harmless."""
_LOOK: Final = 30.0
"""Seconds that a look may take."""
_EVERY: Final = 1.0
_FENCED: Final = 0.2
_AT_ONCE: Final = 0.05
"""Seconds between two looks: usually, while a flip holds writes until the outbox is empty, and where the last look has left
something to do."""
_LONGEST_PAUSE: Final = 10.0
_LAST_WORD: Final = 1.0
"""Seconds for giving the lease back."""

_MARKS: Final = 500
_ENDED: Final = 5.0
"""Seconds after the deadline of a write to legacy: then it has ended, whatever became of its writer."""
_COMMITTED: Final = 1.0
"""Seconds. A mark of prisma is seen only together with its write; its writer is given this time to settle it."""
_SKEW: Final = timedelta(seconds=60)
"""How much the clocks by which documents are stamped may be behind the store's."""
_BATCH: Final = 60.0
"""Seconds for a batch of the keys that a mark without a key stands for."""

_RETRY_EVERY: Final = 5.0
_RETRY_MOST: Final = 3600.0
_RETRIED: Final = 50
"""Keys of an entity's quarantine that one look tries again."""


class Sweep:
    def __init__(
        self,
        side: SideName,
        replica: str,
        stores: Mapping[SideName, Store],
        flags: Flags,
        parents: Parents,
        settler: Settler,
        replicator: Replicator,
        quarantines: Quarantines,
        metrics: Metrics,
        *,
        write_deadline: timedelta,
    ) -> None:
        self._side = side
        self._replica = replica
        self._store = stores[side]
        self._flags = flags
        self._entities = parents_first(parents)
        self._settler = settler
        self._replicator = replicator
        self._quarantines = quarantines
        self._metrics = metrics
        self._age = _COMMITTED if side == "prisma" else write_deadline.total_seconds() + _ENDED
        self._holds = False
        self._nameless: dict[str, asyncio.Task[None]] = {}
        self._retried = 0.0
        self._tasks = Tasks()

    def start(self) -> None:
        self._tasks.start(f"sweep-{self._side}", self._run())

    async def stop(self) -> None:
        """End, and let another replica sweep at once."""
        await self._tasks.stop()
        if self._holds:
            self._holds = False
            try:
                async with asyncio.timeout(_LAST_WORD):
                    await self._store.state.release(_NAME, self._replica)
            except (SideError, TimeoutError) as error:
                log.warning("sweep_lease_left", side=self._side, cause=reason_of(error))

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                async with asyncio.timeout(_LOOK):
                    more = await self._look()
            except (SideError, TimeoutError) as error:
                failures += 1
                self._failed(error, failures)
                await asyncio.sleep(_backoff(failures))
                continue
            if failures:
                log.info("sweep_recovered", side=self._side, failures=failures)
                failures = 0
            await asyncio.sleep(self._pause(more) * random.uniform(0.8, 1.2))

    def _pause(self, more: bool) -> float:
        if more:
            return _AT_ONCE
        return _FENCED if any(self._flags[entity].target for entity in self._entities) else _EVERY

    def _failed(self, error: Exception, failures: int) -> None:
        self._metrics.sweep_failures.labels(self._side).inc()
        self._report_nothing()
        if failures == 1:  # it is said when it begins and when it ends
            log.warning("sweep_failing", side=self._side, cause=reason_of(error))

    async def _look(self) -> bool:
        """Sweep, if it is this replica's turn. True: there is more to do at once."""
        sizes = await self._quarantines.look(self._side)
        held, self._holds = self._holds, await self._store.state.lease(_NAME, self._replica, _HELD)
        if held != self._holds:
            log.info("sweeping" if self._holds else "sweep_lost", side=self._side, replica=self._replica)
        if not self._holds:
            self._report_nothing()
            return False
        outbox = await self._store.outbox()
        self._report(outbox, sizes)
        swept = [await self._sweep(entity) for entity in self._entities if entity in outbox]
        await self._forget_silent()
        await self._retry(sizes)
        return any(swept)

    # Marks

    async def _sweep(self, entity: str) -> bool:
        """Settle the entity's old marks, whatever its primary is now. True: there are more than one look takes."""
        # While a flip holds its writes, a mark of prisma is that of a writer that has died, or has acknowledged.
        older = 0.0 if self._side == "prisma" and self._flags[entity].target else self._age
        most = min(_MARKS, self._replicator.room(entity))
        marks = await self._store.marks(entity, most, older=older) if most else []
        if not self._flags.meaning(entity).settles:
            return await self._clear(entity, marks) and len(marks) == most
        fresh = 0
        for mark in marks:
            if mark.key is not None and not self._replicator.pending(entity, mark.key, mark.id):
                self._replicator.changed(entity, [mark.key], [(self._side, mark.id)])
                fresh += 1
        self._metrics.sweep_marks.labels(self._side).inc(fresh)
        nameless = [mark for mark in marks if mark.key is None]
        if nameless and entity not in self._nameless:
            name = f"sweep-{self._side}-{entity}"
            self._nameless[entity] = self._tasks.start(name, self._sweep_nameless(entity, nameless))
        return bool(fresh) and len(marks) == most

    async def _clear(self, entity: str, marks: Sequence[Mark]) -> bool:
        """Remove marks of an entity that settles nothing. This replica may have been paused, and its flags be of another
        time than the marks: the flag that counts is in the store that they are in."""
        known = self._flags[entity].epoch
        if any(flag.entity == entity and flag.epoch > known for flag in await self._store.state.flags()):
            return False
        await self._store.unmark([mark.id for mark in marks])
        self._metrics.sweep_marks.labels(self._side).inc(len(marks))
        return bool(marks)

    async def _sweep_nameless(self, entity: str, marks: Sequence[Mark]) -> None:
        """Marks without a key stand for every document changed since they were made."""
        try:
            if self._flags.meaning(entity).settles:
                since = min(mark.at for mark in marks) - _SKEW
                async for keys in self._store.changed_since(entity, since):
                    async with asyncio.timeout(_BATCH):
                        await self._replicator.settle(entity, keys)
            await self._store.unmark([mark.id for mark in marks])
            self._metrics.sweep_marks.labels(self._side).inc(len(marks))
        except (SideError, TimeoutError) as error:
            self._metrics.sweep_failures.labels(self._side).inc()
            log.warning("sweep_unfinished", side=self._side, entity=entity, marks=len(marks), cause=reason_of(error))
            await asyncio.sleep(random.uniform(0.5, 1.0) * _LONGEST_PAUSE)
        finally:
            del self._nameless[entity]

    # Quarantine and registry

    async def _retry(self, sizes: Mapping[str, int]) -> None:
        """Keys that were refused, in the direction of the store that they lie in."""
        now = asyncio.get_running_loop().time()
        if now - self._retried < _RETRY_EVERY:
            return
        self._retried = now
        for entity in self._entities:
            meaning = self._flags.meaning(entity)
            if entity in sizes and meaning.settles and meaning.primary == self._side:
                due = [one.key for one in await self._store.quarantine.refusals(entity) if _is_due(one)]
                await self._try_again(entity, due[:_RETRIED])

    async def _try_again(self, entity: str, keys: Sequence[Key]) -> None:
        try:
            if keys:
                await self._quarantines.retry(self._side, entity, keys, self._settler)
        except SideError as error:
            # It may be the other store that is away: no reason not to go on with this one.
            self._metrics.sweep_failures.labels(self._side).inc()
            log.warning("retry_failed", side=self._side, entity=entity, keys=len(keys), cause=reason_of(error))

    async def _forget_silent(self) -> None:
        """What a replica left open in this store, when it died, is in the way of others until it is forgotten."""
        for replica in await self._store.state.replicas():
            if replica.age > LEASE and replica.id != self._replica:
                await self._store.state.forget_replica(replica.id, silent=LEASE)
                log.warning("replica_gone", replica=replica.id, side=self._side, silent_s=round(replica.age, 1))

    # Metrics: only who holds the lease knows

    def _report(self, outbox: Mapping[str, Backlog], sizes: Mapping[str, int]) -> None:
        for entity in self._entities:
            backlog = outbox.get(entity, Backlog())
            self._metrics.outbox_marks.labels(self._side, entity).set(backlog.marks)
            self._metrics.outbox_oldest.labels(self._side, entity).set(backlog.oldest)
            self._metrics.quarantine.labels(self._side, entity).set(sizes.get(entity, 0))

    def _report_nothing(self) -> None:
        for entity in self._entities:
            for gauge in (self._metrics.outbox_marks, self._metrics.outbox_oldest, self._metrics.quarantine):
                gauge.remove(self._side, entity)


def parents_first(parents: Parents) -> tuple[str, ...]:
    """The entities, each after those that it refers to, as far as they do not refer to each other in a circle."""
    order: dict[str, None] = {}

    def visit(entity: str, below: frozenset[str]) -> None:
        for _, parent in parents[entity]:
            if parent not in below and parent not in order:
                visit(parent, below | {parent})
        order.setdefault(entity)

    for entity in parents:
        visit(entity, frozenset({entity}))
    return tuple(order)


def _is_due(refusal: Refusal) -> bool:
    """Ever more slowly, up to once an hour."""
    return refusal.age > min(_RETRY_MOST, _RETRY_EVERY * 2.0 ** min(refusal.tries, 10))


def _backoff(failures: int) -> float:
    """Seconds: doubling, capped, with jitter."""
    return random.uniform(0.5, 1.0) * min(_LONGEST_PAUSE, _EVERY * 2.0 ** min(failures - 1, 10))
