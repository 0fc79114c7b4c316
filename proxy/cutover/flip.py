"""The fenced flip: an entity changes sides while nobody writes it.

Fence, acknowledge, drain, turn, decide, copy: in this order. Up to the decision anybody may take the flip back; from the
decision on anybody finishes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Final, Literal

import structlog

from adapters.side import Flag, SideError, SideName, Store, Unavailable
from config.model import Stage
from proxy.cutover.drain import Drain
from proxy.flags.arbiter import Arbiter, arbiter_of
from proxy.flags.both import DEADLINE, within
from proxy.flags.registry import live_replicas
from proxy.flags.stages import MEANINGS
from proxy.flags.view import read_flags
from proxy.migration.verification.verification import forget

log = structlog.get_logger()

_LOOK: Final = 0.02

Step = Literal["fenced", "acknowledged", "drained", "turned", "decided", "copied"]
Reached = Callable[[Step], Awaitable[None]]
"""Told of each step of a flip as it is reached, and waited for before the next one: for tests, which end the coordinator
there."""


async def unnoticed(_: Step) -> None:
    """What a coordinator does at every step beside its work: nothing."""


class Refused(Exception):
    """The flag stays as it is; the message says why and what would be accepted."""


class Flip:
    """One attempt to move the primary of the entity that `before` is the flag of."""

    def __init__(
        self,
        stores: Mapping[SideName, Store],
        arbiter: Arbiter,
        drain: Drain,
        before: Flag,
        to: Stage,
        who: str,
        *,
        hold: float,
        reached: Reached = unnoticed,
    ) -> None:
        self._stores = stores
        self._arbiter = arbiter
        self._drain = drain
        self._before = before
        self._who = who
        self._hold = hold
        self._reached = reached
        self._old = MEANINGS[Stage(before.stage)].primary
        self._new = MEANINGS[to].primary
        changed = replace(before, changed_by=who, changed_at=None, age=0.0)
        self.fenced = replace(changed, target=to.value, epoch=before.epoch + 1)
        self.flipped = replace(changed, stage=to.value, epoch=before.epoch + 2, term=before.epoch + 2)
        self._begun = 0.0
        self._until = 0.0
        self._waits_for = ""
        self._may_be_fenced = False
        self._decided = False

    async def steps(self) -> AsyncGenerator[str]:
        """Yields a line for each step done. Raises Refused where it did not come about in time, or somebody else was first;
        SideError where a store went away. Then the entity stands where it stood."""
        self._begun = asyncio.get_running_loop().time()
        self._until = self._begun + self._hold
        try:
            yield await self._do("fenced", self._fence)
            yield await self._do("acknowledged", self._acknowledge)
            yield await self._do("drained", self._empty)
            # Protocol rule: the new primary's store learns the new term first. From here it refuses what the old direction
            # still carries.
            yield await self._do("turned", self._turn)
            yield await self._do("decided", self._decide)
        except (SideError, TimeoutError) as error:
            failure = await self._failed(error)
            if not self._decided:
                raise failure from error
            yield f"{self.flipped.entity}: {self._moved()}"
        except (asyncio.CancelledError, GeneratorExit):
            await self._give_up("interrupted")
            raise
        self._until += DEADLINE
        yield await self._do("copied", self._copy)

    async def _do(self, step: Step, work: Callable[[], Awaitable[str]]) -> str:
        time = asyncio.get_running_loop().time
        begun = time()
        async with asyncio.timeout_at(self._until):
            said = await work()
        took = (time() - begun) * 1000
        flag = self.flipped if self._decided else self.fenced
        way = {"from": self._before.stage, "to": self.flipped.stage}
        log.info("flip", step=step, entity=flag.entity, epoch=flag.epoch, cause=self._who, ms=round(took, 1), **way)
        await self._reached(step)
        return f"{flag.entity}: {said} ({took:.0f} ms)"

    async def _fence(self) -> str:
        self._may_be_fenced = True
        self._waits_for = f"{self._old} did not answer"
        if not await self._arbiter.decide(self._before, self.fenced):
            self._may_be_fenced = False
            raise Refused(f"somebody else changed {self.fenced.entity} at the same moment; look at it and try again")
        # In both stores before anybody may be declared gone: whoever comes back sees it, whichever store it can reach.
        self._waits_for = f"{self._new} did not answer"
        await self._arbiter.tell(self.fenced, self._new)
        return f"fenced at epoch {self.fenced.epoch}, new writes wait"

    async def _acknowledge(self) -> str:
        while True:
            try:
                live = await live_replicas(self._stores)
            except SideError as error:
                self._waits_for = str(error)
            else:
                waiting = [one.id for one in live if one.epochs.get(self.fenced.entity, 0) < self.fenced.epoch]
                if not waiting:
                    return f"acknowledged by {len(live)} replicas"
                self._waits_for = f"{', '.join(waiting)} has not acknowledged"
            await asyncio.sleep(_LOOK)

    async def _empty(self) -> str:
        self._waits_for = f"not everything that was written to {self._old} has settled"
        await self._drain.drained(self.fenced.entity, self._old)
        return "nothing is left to settle"

    async def _turn(self) -> str:
        self._waits_for = f"{self._new} did not answer"
        store = self._stores[self._new]
        await asyncio.gather(
            store.turn(self.fenced.entity, self.flipped.term), forget(store, self.fenced.entity, self._who)
        )
        return f"{self._new} refuses settles of before"

    async def _decide(self) -> str:
        self._waits_for = f"{self._old} did not answer"
        if not await self._arbiter.decide(self.fenced, self.flipped):
            raise Refused(f"the fence was taken away: {await self._standing()}")
        self._decided = True
        held = (asyncio.get_running_loop().time() - self._begun) * 1000
        return f"{self._moved()}, held for {held:.0f} ms"

    def _moved(self) -> str:
        return f"{self._before.stage} -> {self.flipped.stage}, epoch {self.flipped.epoch}, writes go on"

    async def _copy(self) -> str:
        """Whoever cannot be told now hears it from the replicas."""
        flag = self.flipped
        away, _ = await asyncio.gather(self._arbiter.tell_others(self.fenced, flag), self._turn_old())
        return f"{' and '.join(away)} is away, and hears of it later" if away else "both stores know"

    async def _turn_old(self) -> None:
        try:
            await within(DEADLINE, self._stores[self._old].turn(self.flipped.entity, self.flipped.term))
        except SideError as error:
            log.warning("term_untold", entity=self.flipped.entity, side=self._old, cause=str(error))

    async def _failed(self, error: Exception) -> Exception:
        """Take it back, and say so."""
        late = isinstance(error, TimeoutError)
        cause = self._waits_for if late else str(error)
        stands = await self._give_up(cause)
        entity = self.fenced.entity
        if late:
            return Refused(f"{entity} was not moved within {self._hold:g} s ({cause}): {stands}")
        return Unavailable(f"{entity} was not moved ({cause}): {stands}")

    async def _give_up(self, cause: str) -> str:
        """Where the entity stands then. What was decided stays: whoever finds it finishes it."""
        try:
            if self._decided or not self._may_be_fenced:
                return await self._standing()
            if await self._arbiter.take_back(self.fenced, self._who, cause=cause):
                return f"it is at {self._before.stage} again, and nothing is lost"
            return await self._standing()
        except SideError:
            side = arbiter_of(self.fenced)
            return f"{side} does not answer, and as soon as it does the replicas take the fence back"

    async def _standing(self) -> str:
        flags = [flag for flag in await read_flags(self._stores) if flag.entity == self.fenced.entity]
        flag = max(flags, key=lambda flag: flag.epoch, default=self._before)
        ours = (self.flipped.epoch, self.flipped.stage, self._who)
        # Only the acknowledgement of the decision was lost.
        self._decided |= self._may_be_fenced and (flag.epoch, flag.stage, flag.changed_by) == ours
        fenced = f", on its way to {flag.target}" if flag.target else ""
        return f"{flag.changed_by} left it at {flag.stage}{fenced}, epoch {flag.epoch}"
