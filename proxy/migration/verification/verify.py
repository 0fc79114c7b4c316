"""Verify: every key of both sides, in both directions, while traffic runs.

Forward along the primary, backward along the secondary, a range at a time; then what was found is looked at again. A key
that differs is a suspect until it has survived settling and looks of its own (`confirm`). After each range what has been
found so far is kept with the primary, so that a run that dies goes on from there and forgets nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final, NoReturn

import structlog

from adapters.mongo.store import MongoStore
from adapters.side import SideError, SideName, Store
from comparators.rules import Rules
from proxy.flags.view import Flags
from proxy.migration.copy.backfill import Watch
from proxy.migration.run.admission import NotSettling
from proxy.migration.run.following import total_of
from proxy.migration.run.keeping import Checkpoint, Keeping, Purpose, new_holder
from proxy.migration.run.pace import Pace
from proxy.migration.run.patience import Patience
from proxy.migration.run.progress import Progress, Silent
from proxy.migration.verification.confirm import PATIENCE, STEADY, Confirm
from proxy.migration.verification.look import Looks
from proxy.migration.verification.mend import Mend
from proxy.migration.verification.sample import FULL, Sample
from proxy.migration.verification.scan import Scan
from proxy.migration.verification.stillness import Stillness
from proxy.migration.verification.verification import NAME, Verification, fingerprint, shape_of_run
from proxy.migration.verification.verifying import Turned, Verifying
from proxy.replication.settle import Settler
from proxy.replication.steps import Reached, unnoticed
from proxy.tasks import first_ended

log = structlog.get_logger()

_WORKERS: Final = 4
_LOOK: Final = 1.0
"""Seconds between two looks at the entity's flag."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a run is to do: compare this share of the keys, in percent; repair what is found; with `restart`, not go on with
    the last one. `patience`: seconds that a key is given to settle and to hold still; `steady`: seconds that a difference
    has to stand where there is traffic."""

    sample: float = FULL
    repair: bool = False
    restart: bool = False
    patience: float = PATIENCE
    steady: float = STEADY


class Verifier:
    """Verifies one entity after the other.

    `rules`, and `shapes` with the rules in them (`proxy.migration.run.shape`), are what the entities are compared under.
    `patience` bounds how long a store may be away, `watch` changes the pace while an entity is worked on.
    """

    def __init__(
        self,
        stores: Mapping[SideName, Store],
        legacy: MongoStore,
        flags: Flags,
        settler: Settler,
        *,
        rules: Mapping[str, Rules],
        shapes: Mapping[str, Mapping[str, str]],
        pace: Pace | None = None,
        patience: Patience | None = None,
        progress: Progress | None = None,
        watch: Watch | None = None,
        holder: str | None = None,
        workers: int = _WORKERS,
        reached: Reached = unnoticed,
    ) -> None:
        self._stores = stores
        self._flags = flags
        self._settler = settler
        self._rules = rules
        self._shapes = shapes
        self._pace = pace or Pace()
        self._patience = patience or Patience()
        self._progress = progress or Silent()
        self._watch = watch
        self._holder = holder or new_holder()
        self._workers = workers
        self._reached = reached
        self._stillness = Stillness(stores, legacy)

    async def verify(self, entity: str, asked: Asked = Asked()) -> Verification:
        """Go on with the last run of the entity where it did not come to its end, or begin one. What nobody can say for sure
        is in what it returns. Raises NotSettling where nothing keeps the sides in step, Taken where another process verifies
        it, Reshaped where the last run cannot be gone on with, Lost, and GivenUp where a store was away for too long."""
        await self._flags.refresh()
        flag, meaning = self._flags[entity], self._flags.meaning(entity)
        if not meaning.settles:
            raise NotSettling(f"{entity} is at {flag.stage}, where the sides are not kept in step: nothing to verify")
        store, purpose = self._stores[meaning.primary], Purpose(NAME, entity, self._holder)
        keeping = Keeping(purpose, store)
        await self._patience.through(keeping.take)
        try:
            checkpoint = await self._begin(purpose, store, asked)
            found = Verification.of(checkpoint.run)
            if found is None:
                at = datetime.now(UTC)
                config = fingerprint(self._shapes[entity])
                found = Verification.begun(flag, meaning, config, sample=asked.sample, at=at)
            else:
                found.resumed += 1
            await self._look_on(self._verifying(found, checkpoint, asked), keeping)
            return found
        finally:
            await keeping.end()

    async def _begin(self, purpose: Purpose, store: Store, asked: Asked) -> Checkpoint:
        """The place of a run whose findings nobody can read is of no use."""
        shape = shape_of_run(self._shapes[purpose.entity], asked.sample)
        begin = partial(Checkpoint.begin, purpose, store, shape)
        checkpoint = await self._patience.through(partial(begin, restart=asked.restart))
        if checkpoint.run.upto is not None and Verification.of(checkpoint.run) is None:
            return await self._patience.through(partial(begin, restart=True))
        return checkpoint

    def _verifying(self, found: Verification, checkpoint: Checkpoint, asked: Asked) -> Verifying:
        entity, primary, rules = found.entity, found.primary, self._rules[found.entity]
        looks = Looks(entity, primary, self._stores, rules)
        return Verifying(
            found,
            checkpoint,
            self._stores,
            Scan(entity, primary, self._stores, rules, Sample(asked.sample)),
            Confirm(entity, primary, looks, self._stillness, patience=asked.patience, steady=asked.steady),
            Mend(entity, primary, self._stores, self._settler) if asked.repair else None,
            self._flags,
            self._pace,
            self._patience,
            self._progress,
            self._workers,
            self._reached,
        )

    async def _look_on(self, verifying: Verifying, keeping: Keeping) -> None:
        """Work, for as long as the lease is ours and the entity stays where it is."""
        found = verifying.found
        self._progress.begin(found.entity, await self._total(found.entity), sum(found.looked.values()))
        try:
            await first_ended(verifying.all(), keeping.renew(), self._stay(verifying), self._watching(found.entity))
        except Turned as error:
            await verifying.end(str(error))
        finally:
            self._progress.end(found.summary())

    async def _total(self, entity: str) -> int | None:
        """About how many keys there are to walk over, where that is known."""
        totals = [await total_of(store, entity) for store in self._stores.values()]
        return None if None in totals else sum(total or 0 for total in totals)

    async def _stay(self, verifying: Verifying) -> NoReturn:
        """Look whether the entity's primary is still the same one. Raises Turned."""
        while True:
            await asyncio.sleep(_LOOK)
            try:
                await verifying.check_primary()
            except Turned:
                raise
            except SideError as error:
                # Both stores are away: who compares waits for them, and says so.
                log.debug("flags_unreadable", cause=str(error))

    async def _watching(self, entity: str) -> None:
        if self._watch is None:
            await asyncio.Event().wait()
        else:
            await self._watch(entity, self._pace)
