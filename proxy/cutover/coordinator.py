"""Changing a flag: one stage at a time, and fenced where the step moves the primary.

The coordinator is whoever runs the command. It holds nothing that matters: each of its steps leaves a state that another
one, or the replicas by themselves, finish or take back.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Final

import structlog

from adapters.mongo.store import MongoStore
from adapters.side import Flag, SideError, SideName, Store
from config.model import Entity, Stage
from proxy.cutover.drain import Drain
from proxy.cutover.flip import Flip, Reached, Refused, unnoticed
from proxy.cutover.guards import VERIFIED, Guards, Move, Verdict
from proxy.flags.arbiter import Arbiter
from proxy.flags.both import ask_both
from proxy.flags.stages import MEANINGS, is_step, moves_primary, neighbours
from proxy.flags.view import ABANDONED, DECIDED, HOLD, configured, newest, read_flags
from proxy.replication.settle import Parents

__all__ = ["Cutover", "Refused"]

log = structlog.get_logger()

_NOTE: Final = 2000


class Cutover:
    """Reads and changes flags in both stores."""

    def __init__(
        self,
        entities: Mapping[str, Entity],
        stores: Mapping[SideName, Store],
        parents: Parents,
        legacy: MongoStore,
        shapes: Mapping[str, Mapping[str, str]],
        *,
        hold: float = HOLD,
        verified: float = VERIFIED,
        reached: Reached = unnoticed,
    ) -> None:
        """`shapes`: what the entities are compared under now. `hold`: seconds that a flip may hold an entity's writes;
        `verified`: how old a verification may be, for a flip onward."""
        self._entities = entities
        self._stores = stores
        self._parents = parents
        self._arbiter = Arbiter(stores)
        self._drain = Drain(stores, legacy)
        self._guards = Guards(stores, legacy, shapes, verified=verified)
        self._hold = hold
        self._reached = reached

    async def flags(self) -> dict[str, Flag]:
        return newest(await read_flags(self._stores), configured(self._entities))

    async def tune(self, entity: str, who: str, *, serve: int | None = None, sample: int | None = None) -> Flag:
        """Change what share is served by the secondary, or compared; the stage stays. Raises Refused and SideError."""
        now = await self._standing(entity, who)
        flag = replace(
            _next(now, who),
            serve=now.serve if serve is None else serve,
            sample=now.sample if sample is None else sample,
        )
        await self._decide(now, flag)
        return flag

    async def flip(
        self,
        entity: str,
        to: Stage,
        who: str,
        *,
        force: bool = False,
        reason: str = "",
        deadline: float | None = None,
    ) -> AsyncGenerator[str]:
        """Move the entity to the next or previous stage; yields a line for each step done. `force` goes past the guards,
        never past the fence. `deadline` shortens the time for which writes may be held. Raises Refused and SideError."""
        now = await self._standing(entity, who)
        stage = Stage(now.stage)
        self._check_step(entity, stage, to)
        await self._check_relatives(entity, to)
        if moves_primary(stage, to):
            hold = self._hold * DECIDED
            hold = hold if deadline is None else min(deadline, hold)
            verdicts = await self._pass_guards(Move(entity, stage, to), force=force)
            note = _note(reason, [*verdicts] if force else [])
            flip = Flip(self._stores, self._arbiter, self._drain, now, to, who, hold=hold, reached=self._reached)
            async with aclosing(self._flip(flip, now, to, who, note, force=force)) as steps:
                async for line in steps:
                    yield line
            return
        flag = replace(_next(now, who), stage=to.value)
        away = await self._decide(now, flag)
        await self._audit(now, flag, to, "set", _note(reason, []))
        yield f"{entity}: {stage} -> {to}, epoch {flag.epoch}"
        for side in away:
            yield f"{entity}: {side} is away, and hears of it when it is back"

    async def cancel(self, entity: str, who: str) -> Flag:
        """Take back the flip that the entity is in, whoever began it. Raises Refused where there is none, or it was done at
        that moment, and SideError."""
        self._check_known(entity)
        now = (await self.flags())[entity]
        if now.target is None:
            raise Refused(f"{entity} is not being moved: it is at {now.stage}")
        if not await self._arbiter.take_back(now, who, cause="cancelled"):
            stands = (await self.flags())[entity]
            raise Refused(f"too late: {stands.changed_by} has left {entity} at {stands.stage}, epoch {stands.epoch}")
        flag = (await self.flags())[entity]
        await self._audit(now, flag, Stage(now.stage), "cancel", "")
        return flag

    async def _flip(self, flip: Flip, now: Flag, to: Stage, who: str, note: str, *, force: bool) -> AsyncGenerator[str]:
        try:
            async with aclosing(flip.steps()) as steps:
                async for line in steps:
                    yield line
        except (Refused, SideError) as error:
            await self._audit(now, flip.fenced, to, "abort", _note(note, [str(error)]))
            raise
        await self._audit(now, flip.flipped, to, "force" if force else "flip", note)

    async def _pass_guards(self, move: Move, *, force: bool) -> list[Verdict]:
        verdicts = await self._guards.verdicts(move)
        failed = [verdict for verdict in verdicts if not verdict.passed]
        if failed and not force:
            said = "\n".join(f"  {verdict}" for verdict in failed)
            raise Refused(f"{move.entity} stays at {move.stage}; --force goes past this:\n{said}")
        return verdicts

    def _check_known(self, entity: str) -> None:
        if entity not in self._entities:
            raise Refused(f"unknown entity {entity}; expected one of {', '.join(self._entities)}")

    def _check_step(self, entity: str, stage: Stage, to: Stage) -> None:
        if to == stage:
            raise Refused(f"{entity} is at {stage} already")
        if not is_step(stage, to):
            ways = " or ".join(neighbours(stage))
            raise Refused(f"{entity} is at {stage}: {to} is more than one stage away; expected {ways}")

    async def _check_relatives(self, entity: str, to: Stage) -> None:
        """A document refers to its parent on every side that it is on: there the parent has to be."""
        flags = {name: flag.stage for name, flag in (await self.flags()).items()} | {entity: to.value}
        for child, parents in self._parents.items():
            for _, parent in parents:
                if entity in (child, parent) and not _stand_together(flags[child], flags[parent]):
                    other = parent if entity == child else child
                    raise Refused(
                        f"{child} refers to {parent}: {entity} cannot be at {to} while {other} is at {flags[other]};"
                        f" move {other} first"
                    )

    async def _standing(self, entity: str, who: str) -> Flag:
        """The entity's flag, which is not fenced. A fence that its coordinator has abandoned is taken back."""
        self._check_known(entity)
        flag = (await self.flags())[entity]
        if flag.target is not None and flag.age > self._hold * ABANDONED:
            await self._arbiter.take_back(flag, who, cause="abandoned")
            flag = (await self.flags())[entity]
        if flag.target is not None:
            raise Refused(
                f"{entity} is being moved to {flag.target} by {flag.changed_by}, for {flag.age:.1f} s now;"
                f" wait, or take it back: strangler flag cancel {entity}"
            )
        return flag

    async def _decide(self, now: Flag, flag: Flag) -> list[SideName]:
        """Decide, and tell the other store. Returns who could not be told. Raises Refused and SideError."""
        if not await self._arbiter.decide(now, flag):
            raise Refused(f"somebody else changed {flag.entity} at the same moment; look at it and try again")
        return await self._arbiter.tell_others(now, flag)

    async def _audit(self, before: Flag, after: Flag, to: Stage, action: str, note: str) -> None:
        """In both stores, as far as they answer: what has happened is not undone for want of a note of it."""
        entry: dict[str, Any] = {
            "entity": before.entity,
            "who": after.changed_by,
            "action": action,
            "fromStage": before.stage,
            "toStage": to.value,
            "epoch": after.epoch,
            "note": note[:_NOTE] or None,
        }
        try:
            await ask_both(self._stores, lambda _, store: store.state.audit(entry))
        except SideError as error:
            log.error("audit_unwritten", entity=before.entity, action=action, cause=str(error))


def _next(now: Flag, who: str) -> Flag:
    return replace(now, epoch=now.epoch + 1, changed_by=who, changed_at=None, age=0.0)


def _note(reason: str, more: Sequence[object]) -> str:
    return "; ".join(str(part) for part in (reason, *more) if str(part))


def _stand_together(child: str, parent: str) -> bool:
    """Where the parent is on one side only, the child may not need it on the other. Only prisma has foreign keys."""
    theirs, its = MEANINGS[Stage(parent)], MEANINGS[Stage(child)]
    needed = {its.primary, "prisma"} if its.settles else {its.primary}
    return theirs.settles or needed == {theirs.primary}
