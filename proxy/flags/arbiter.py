"""Decisions about a flag: one store decides, and the other one is told.

Protocol rule: the arbiter of a decision is the store of the entity's primary before it. There a flag is saved only after
exactly the epoch that the decision is based on, so of two coordinators one wins; the other store gets a copy. Two stores
never hold different flags under one epoch, and the highest epoch is the truth.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import structlog

from adapters.side import Flag, SideError, SideName, Store, Unavailable
from config.model import Stage
from proxy.flags.both import DEADLINE, within
from proxy.flags.stages import MEANINGS

log = structlog.get_logger()


def arbiter_of(flag: Flag) -> SideName:
    """Whose store decides what comes after this flag."""
    return MEANINGS[Stage(flag.stage)].primary


def taken_back(fenced: Flag, who: str) -> Flag:
    """The flag as it was before the fence. It has the number that the flip would have had: only one of them can be."""
    return replace(
        fenced, target=None, epoch=fenced.epoch + 1, term=fenced.epoch + 1, changed_by=who, changed_at=None, age=0.0
    )


class Arbiter:
    def __init__(self, stores: Mapping[SideName, Store]) -> None:
        self._stores = stores

    async def decide(self, before: Flag, flag: Flag) -> bool:
        """Make `flag` what comes after `before`. False: something else has come. Raises SideError where the arbiter does not
        answer; Unavailable that was `sent` may have decided all the same."""
        side = arbiter_of(before)
        state = self._stores[side].state
        try:
            if await within(DEADLINE, state.save_flag(flag, after=before.epoch)):
                return True
            # It may only not have heard of `before`, which the other store decided; or hear of it in this moment.
            await within(DEADLINE, state.save_flag(before))
            return await within(DEADLINE, state.save_flag(flag, after=before.epoch))
        except Unavailable as error:
            said = f"{side}, which decides about {flag.entity}, does not answer ({error})"
            raise Unavailable(said, sent=error.sent) from error

    async def tell(self, flag: Flag, side: SideName) -> None:
        """Give this store a copy, unless it knows a later flag. Raises SideError."""
        await within(DEADLINE, self._stores[side].state.save_flag(flag))

    async def tell_others(self, before: Flag, flag: Flag) -> list[SideName]:
        """Copy what was decided to whoever did not decide. Returns who could not be told: any replica tells it later."""
        others = [side for side in self._stores if side != arbiter_of(before)]
        answers = await asyncio.gather(*(self.tell(flag, side) for side in others), return_exceptions=True)
        away: list[SideName] = []
        for side, answer in zip(others, answers, strict=True):
            if isinstance(answer, BaseException):
                if not isinstance(answer, SideError):
                    raise answer
                away.append(side)
                log.warning("flag_untold", entity=flag.entity, epoch=flag.epoch, side=side, cause=str(answer))
        return away

    async def take_back(self, fenced: Flag, who: str, *, cause: str) -> bool:
        """Let the entity stand where it stood. False: the flip, or somebody else's take-back, was first. Raises SideError."""
        flag = taken_back(fenced, who)
        if not await self.decide(fenced, flag):
            return False
        said = {"from": fenced.target, "to": flag.stage}
        log.info("flip", step="taken_back", entity=flag.entity, epoch=flag.epoch, cause=cause, **said)
        await self.tell_others(fenced, flag)
        return True
