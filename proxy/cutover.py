"""Changing a flag: one stage at a time, and fenced where the step moves the primary.

The coordinator is whoever runs the command; it holds nothing that matters. Its steps are those of the design: publish the
flag fenced, wait until every replica has drained and acknowledged, publish the new stage, the new primary's store first.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from adapters.side import Flag, Replica, SideError, SideName, State, Store
from config.model import Entity, Stage
from proxy.flags import configured, newest, read_flags
from proxy.presence import LEASE
from proxy.settle import Parents
from proxy.stages import MEANINGS, is_step, moves_primary, neighbours

DEADLINE: Final = 5.0
"""Seconds that a flip may hold writes; past them the flag goes back as it was."""
_LOOK: Final = 0.02


class Refused(Exception):
    """The flag stays as it is; the message says why and what would be accepted."""


class Cutover:
    """Reads and changes flags in both stores."""

    def __init__(self, entities: Mapping[str, Entity], stores: Mapping[SideName, Store], parents: Parents) -> None:
        self._entities = entities
        self._stores = stores
        self._parents = parents

    async def flags(self) -> dict[str, Flag]:
        return newest(await read_flags(self._stores.values()), configured(self._entities))

    async def tune(self, entity: str, who: str, *, serve: int | None = None, sample: int | None = None) -> Flag:
        """Change what share is served by the secondary, or compared; the stage stays."""
        now = await self._settled_flag(entity)
        flag = replace(
            now,
            epoch=now.epoch + 1,
            serve=now.serve if serve is None else serve,
            sample=now.sample if sample is None else sample,
            changed_by=who,
        )
        await self._publish(flag)
        return flag

    async def flip(self, entity: str, to: Stage, who: str, *, deadline: float = DEADLINE) -> AsyncIterator[str]:
        """Move the entity to the next or previous stage; yields a line for each step done. Raises Refused."""
        now = await self._settled_flag(entity)
        stage = Stage(now.stage)
        self._check_step(entity, stage, to)
        await self._check_relatives(entity, to)
        if not moves_primary(stage, to):
            await self._publish(replace(now, stage=to.value, epoch=now.epoch + 1, changed_by=who))
            await self._audit(entity, who, now, to, "set")
            yield f"{entity}: {stage} -> {to}, epoch {now.epoch + 1}"
            return
        if not await self._live():
            raise Refused(f"no proxy is running: one has to drain what {entity} still has under way before {to}")
        fenced = replace(now, target=to.value, epoch=now.epoch + 1, changed_by=who)
        try:
            await self._publish(fenced)
            yield f"{entity}: fenced at epoch {fenced.epoch}, new writes wait"
            async with asyncio.timeout(deadline):
                await self._acknowledged(fenced)
                yield f"{entity}: every replica has drained"
                await self._empty(entity, MEANINGS[stage].primary)
        except TimeoutError:
            await self._take_back(now, fenced)
            await self._audit(entity, who, now, stage, "abort")
            raise Refused(
                f"{entity} did not drain within {deadline:g} s: it is at {stage} again, and nothing is lost"
            ) from None
        except Refused:
            raise  # somebody else's flag is there, not ours
        except BaseException:
            # A store that went away, or Ctrl-C: whatever it is, nobody is held for it.
            await self._take_back(now, fenced)
            raise
        # Rule: the new primary's store learns the new epoch first.
        await self._publish(
            replace(now, stage=to.value, epoch=fenced.epoch + 1, changed_by=who), first=MEANINGS[to].primary
        )
        await self._audit(entity, who, now, to, "flip")
        yield f"{entity}: {stage} -> {to}, epoch {fenced.epoch + 1}, writes go on"

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

    async def _settled_flag(self, entity: str) -> Flag:
        if entity not in self._entities:
            raise Refused(f"unknown entity {entity}; expected one of {', '.join(self._entities)}")
        flag = (await self.flags())[entity]
        if flag.target is not None:
            raise Refused(f"{entity} is being moved to {flag.target} by {flag.changed_by}")
        return flag

    async def _publish(self, flag: Flag, *, first: SideName = "legacy") -> None:
        order: Sequence[SideName] = ("legacy", "prisma") if first == "legacy" else ("prisma", "legacy")
        for side in order:
            if not await self._stores[side].state.save_flag(flag):
                raise Refused(f"somebody else changed {flag.entity} at the same moment; look at it and try again")

    async def _take_back(self, before: Flag, fenced: Flag) -> None:
        """Publish the flag as it was. One store is enough: its epoch is the higher, whatever the other one says."""
        flag = replace(before, epoch=fenced.epoch + 1, changed_by=fenced.changed_by)
        await self._in_both(lambda state: state.save_flag(flag))

    async def _in_both(self, say: Callable[[State], Awaitable[object]]) -> None:
        """A store that is away is left out. Raises SideError when neither answers."""
        answers = await asyncio.gather(*(say(store.state) for store in self._stores.values()), return_exceptions=True)
        errors = [answer for answer in answers if isinstance(answer, BaseException)]
        for error in errors:
            if len(errors) == len(answers) or not isinstance(error, SideError):
                raise error

    async def _live(self) -> list[Replica]:
        """The replicas that either store has heard of within their lease, each at its highest epochs."""
        answers = await asyncio.gather(
            *(store.state.replicas() for store in self._stores.values()), return_exceptions=True
        )
        found: dict[str, Replica] = {}
        for answer in answers:
            if isinstance(answer, SideError):
                continue
            if isinstance(answer, BaseException):
                raise answer
            for replica in answer:
                known = found.get(replica.id)
                if known is None or replica.age < known.age:
                    found[replica.id] = replica
        return [replica for replica in found.values() if replica.age < LEASE]

    async def _acknowledged(self, flag: Flag) -> None:
        """By every replica, and by one at least: of a proxy that has fallen silent nobody knows that it had drained."""
        while not (live := await self._live()) or any(
            replica.epochs.get(flag.entity, 0) < flag.epoch for replica in live
        ):
            await asyncio.sleep(_LOOK)

    async def _empty(self, entity: str, primary: SideName) -> None:
        """Drain after the acknowledgements: no mark of the entity is left in the primary's outbox."""
        while await self._stores[primary].marks(entity, 1):
            await asyncio.sleep(_LOOK)

    async def _audit(self, entity: str, who: str, before: Flag, to: Stage, action: str) -> None:
        entry: dict[str, Any] = {
            "entity": entity,
            "who": who,
            "action": action,
            "fromStage": before.stage,
            "toStage": to.value,
            "epoch": before.epoch + (1 if action == "set" else 2),
        }
        await self._in_both(lambda state: state.audit(entry))


def _stand_together(child: str, parent: str) -> bool:
    """Where the parent is on one side only, the child may not need it on the other. Only prisma has foreign keys."""
    theirs, its = MEANINGS[Stage(parent)], MEANINGS[Stage(child)]
    needed = {its.primary, "prisma"} if its.settles else {its.primary}
    return theirs.settles or needed == {theirs.primary}
