"""Copying one entity: what is done to each range of its keys, and what is kept once it has landed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final

import structlog

from adapters.side import Key, Range, SideError, SideName, Stale, Store, Unavailable
from proxy.flags.view import Flags
from proxy.migration.copy.copied import Copied
from proxy.migration.copy.sameness import Sameness
from proxy.migration.run.keeping import Checkpoint
from proxy.migration.run.pace import Pace
from proxy.migration.run.patience import Patience
from proxy.migration.run.progress import Progress
from proxy.replication.quarantine import Quarantines, reason_of
from proxy.replication.settle import Settled, Settler
from proxy.replication.steps import Reached

log = structlog.get_logger()

_LOOK: Final = 1.0
_TRIES: Final = 3
_ONCE_MORE: Final = 20
"""Refused keys that are tried again together."""


class Moved(SideError):
    """The entity's primary was changed, or it settles no more: what is left to copy would go the wrong way."""


class Stuck(SideError):
    """Keys that do not settle while others do."""


class Copying:
    """One entity, from the side that was its primary when it began. `copied` is what has landed."""

    def __init__(
        self,
        entity: str,
        side: SideName,
        stores: Mapping[SideName, Store],
        flags: Flags,
        settler: Settler,
        quarantines: Quarantines,
        patience: Patience,
        pace: Pace,
        progress: Progress,
        checkpoint: Checkpoint | None,
        reached: Reached,
    ) -> None:
        self.entity = entity
        self._side = side
        self._stores = stores
        self._flags = flags
        self._settler = settler
        self._quarantines = quarantines
        self._patience = patience
        self._pace = pace
        self._progress = progress
        self._checkpoint = checkpoint
        self._reached = reached
        self._sameness = Sameness()
        self._batches = 0
        self._begun = time.monotonic()
        self.copied = Copied.of(checkpoint.run.detail if checkpoint else {})
        self._before = self.copied.seconds

    async def begin(self) -> None:
        """Know what is in quarantine: it may be made good."""
        await self._patience.through(lambda: self._quarantines.look(self._side))

    async def work(self, found: Range) -> Settled:
        """Settle these keys, however long the stores are away; what is refused is in quarantine when this returns."""
        await self._reached("found")
        await self._pace.allow(len(found.keys))
        begun = time.monotonic()
        settled = await self._settle_apart(found.keys, self._batches, _TRIES)
        await self._pace.took(len(found.keys), time.monotonic() - begun)
        return settled

    async def landed(self, found: Range, settled: Settled) -> None:
        """Everything before it has landed as well: keep that."""
        self.copied.add(len(found.keys), settled)
        await self._keep(found.upto)
        self._progress.show(self.copied.keys, self.copied.counts)

    async def finish(self) -> None:
        """Try once more what was refused: a unique value may have moved to another key that has settled only after it."""
        refused = list(self.copied.reasons)
        for at in range(0, len(refused), _ONCE_MORE):
            await self._patience.through(partial(self._retry, refused[at : at + _ONCE_MORE]))
        await self._keep(self._checkpoint.run.upto if self._checkpoint else None, done=True)

    async def stay(self) -> None:
        """Look whether the entity's primary is still the one that is copied from. Raises Moved."""
        while True:
            await asyncio.sleep(_LOOK)
            await self._look()

    async def _settle_apart(self, keys: tuple[Key, ...], since: int, tries: int) -> Settled:
        """What nobody foresaw, or takes longer than any call may, may be one document's doing: the others are to go on
        without it. `since`: how many batches had settled when these were begun."""
        try:
            return await self._patience.through(self._trying(keys, since, tries))
        except Stuck as error:
            log.warning("settle_stuck", entity=self.entity, keys=len(keys), cause=str(error))
            cause: SideError = error
        except SideError:
            raise
        except Exception as error:
            log.exception("settle_failed", entity=self.entity, keys=len(keys))
            cause = SideError(reason_of(error))
        if len(keys) == 1:
            refused = dict.fromkeys(keys, cause)
            await self._patience.through(lambda: self._quarantines.put(self._side, self.entity, refused))
            return Settled(refused=refused, primary=self._side)
        half = len(keys) // 2
        first = await self._settle_apart(keys[:half], since, 1)
        return _together(first, await self._settle_apart(keys[half:], since, 1))

    def _trying(self, keys: tuple[Key, ...], since: int, tries: int) -> Callable[[], Awaitable[Settled]]:
        """Settle these, which may be tried again. Raises Stuck after so many tries, where others have settled meanwhile and
        both stores answer: then it is not for a store that these do not settle."""
        left = tries

        async def settle() -> Settled:
            nonlocal left
            try:
                settled = await self._settle(keys)
            except Unavailable as error:
                left -= 1
                if left <= 0 and self._batches > since and await self._answer():
                    raise Stuck(f"cannot be settled while others can: {error}") from error
                raise
            self._batches += 1
            return settled

        return settle

    async def _settle(self, keys: tuple[Key, ...]) -> Settled:
        known = await self._quarantines.known(self._side, self.entity, keys)
        asks = self._sameness.asks()
        try:
            settled = await self._settler.settle(self.entity, keys, unless_same=asks)
        except Stale as stale:
            await self._look()
            # The entity is where it was: a flip was begun and taken back, and not every store has heard of it.
            raise Unavailable(str(stale)) from stale
        if settled.primary != self._side:
            raise self._moved()
        if asks:
            self._sameness.learn(len(keys), len(settled.same))
        await self._quarantines.release(self._side, self.entity, known, settled.done)
        if settled.refused:
            await self._quarantines.put(self._side, self.entity, settled.refused)
        return settled

    async def _answer(self) -> bool:
        return all(await asyncio.gather(*(store.is_healthy() for store in self._stores.values())))

    async def _retry(self, keys: list[Key]) -> None:
        retried = await self._quarantines.retry(self._side, self.entity, keys, self._settler)
        for key in retried.settled:
            self.copied.healed(key)

    async def _keep(self, upto: str | None, *, done: bool = False) -> None:
        self.copied.seconds = self._before + time.monotonic() - self._begun
        checkpoint = self._checkpoint
        if checkpoint:
            await self._reached("landed")
            await self._patience.through(lambda: checkpoint.save(upto, self.copied.detail, done=done))
            await self._reached("kept")

    async def _look(self) -> None:
        """Raises Moved."""
        try:
            await self._flags.refresh()
        except SideError as error:
            log.debug(
                "flags_unreadable", cause=str(error)
            )  # both stores are away: who copies waits for them, and says so
            return
        meaning = self._flags.meaning(self.entity)
        if not meaning.settles or meaning.primary != self._side:
            raise self._moved()

    def _moved(self) -> Moved:
        flag = self._flags[self.entity]
        return Moved(
            f"{self.entity} was moved to {flag.stage} meanwhile, by {flag.changed_by or 'somebody'}: {self._side} is no "
            "longer what is copied from. What was copied is kept in step like everything else"
        )


def _together(one: Settled, other: Settled) -> Settled:
    return Settled(
        one.written | other.written,
        one.superseded | other.superseded,
        {**one.refused, **other.refused},
        primary=one.primary,
        same=one.same | other.same,
    )
