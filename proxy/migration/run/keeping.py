"""Keeping a run: one process at a time works on an entity, by a lease, and what it has done is saved as it goes.

Both lie with the entity's primary, whose order the run walks in.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, NoReturn

import structlog

from adapters.side import Run, SideError, Store, Unavailable
from proxy.flags.both import within
from proxy.migration.run.shape import changes

log = structlog.get_logger()

LEASE: Final = 10.0
"""Seconds that the lease lasts. Nothing relies on it, only that nobody does the same work twice: settling twice is harmless,
and of two runs only the one that has begun last can save."""
_RENEW: Final = 2.5
_LAST_WORD: Final = 1.0
"""Seconds for giving the lease back."""
SHAPE: Final = "shape"
STARTED: Final = "started"
SINCE: Final = "since"
"""What the detail of every run tells: the entity's shape, when the run was begun, and since when its holder works on it."""


class Taken(SideError):
    """Another process works on this entity."""


class Lost(SideError):
    """Another process has begun to work on this entity, while this one was stopped or away."""


class Reshaped(SideError):
    """The entity is not what it was when the run was begun. `found`: a line for each difference."""

    def __init__(self, purpose: Purpose, found: Sequence[str]) -> None:
        lines = "\n".join(f"  {line}" for line in found)
        super().__init__(
            f"{purpose.entity} has changed since the checkpoint of its {purpose.name}:\n{lines}\n--restart begins anew"
        )
        self.found = tuple(found)


def new_holder() -> str:
    """The name of this process among those that may hold the lease: host, process id, and digits that nobody else has."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


def _is_dead(holder: str) -> bool:
    """Whether it was a process of this machine that has ended, by its name: nobody has to wait for its lease to end."""
    host, pid, _ = holder.rsplit("-", 2) if holder.count("-") >= 2 else ("", "", "")
    if host != socket.gethostname() or not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


@dataclass(frozen=True, slots=True)
class Purpose:
    """What is done, to which entity, by whom: `name` is the command's, such as `backfill`."""

    name: str
    entity: str
    holder: str

    @property
    def lease(self) -> str:
        return f"{self.name}:{self.entity}"


class Keeping:
    """The lease of one process on one entity. Take it, work while it `renew`s, and `end` it."""

    def __init__(self, purpose: Purpose, store: Store) -> None:
        self._purpose = purpose
        self._store = store

    async def take(self) -> None:
        """Take the lease. Raises Taken, with who holds it and since when."""
        purpose, state = self._purpose, self._store.state
        if await state.lease(purpose.lease, purpose.holder, LEASE):
            return
        holder = await state.holder(purpose.lease)
        if holder is not None and _is_dead(holder):
            await state.release(purpose.lease, holder)
            if await state.lease(purpose.lease, purpose.holder, LEASE):
                log.info("lease_inherited", lease=purpose.lease, of=holder)
                return
        raise Taken(f"a {purpose.name} of {purpose.entity} is under way: {await _who(purpose, self._store)}")

    async def renew(self) -> NoReturn:
        """Renew the lease for as long as this runs. Raises Lost; a store that is away is no reason to give it up."""
        purpose = self._purpose
        while True:
            await asyncio.sleep(_RENEW)
            try:
                held = await self._store.state.lease(purpose.lease, purpose.holder, LEASE)
            except Unavailable as error:
                log.warning("lease_not_renewed", lease=purpose.lease, cause=str(error))
                continue
            if not held:
                raise await _lost(purpose, self._store)

    async def end(self) -> None:
        """Give the lease back. Where the store is away it ends by itself."""
        try:
            await within(_LAST_WORD, self._store.state.release(self._purpose.lease, self._purpose.holder))
        except SideError as error:
            log.warning("lease_not_released", lease=self._purpose.lease, cause=str(error))


class Checkpoint:
    """How far a run has come, kept so that the next one goes on from there. `run` is what was saved last."""

    def __init__(self, purpose: Purpose, store: Store, run: Run) -> None:
        self._purpose = purpose
        self._store = store
        self.run = run

    @classmethod
    async def begin(
        cls, purpose: Purpose, store: Store, shape: Mapping[str, str], *, restart: bool = False
    ) -> Checkpoint:
        """Go on from where a run that did not come to its end was saved, or begin anew: from here on only this one saves.

        Raises Reshaped where the entity has changed since; with `restart` nothing is gone on with.
        """
        now = datetime.now(UTC).isoformat(timespec="seconds")
        run = Run(purpose.name, purpose.entity, purpose.holder, detail={SHAPE: dict(shape), STARTED: now, SINCE: now})
        last = await store.runs.load(purpose.name, purpose.entity)
        if last is not None and not last.done and not restart:
            if found := changes(last.detail.get(SHAPE, {}), shape):
                raise Reshaped(purpose, found)
            run = replace(last, holder=purpose.holder, detail={**last.detail, SINCE: now})
        await store.runs.begin(run)
        return cls(purpose, store, run)

    async def save(self, upto: str | None, found: Mapping[str, Any], *, done: bool = False) -> None:
        """Everything before this place is done, and this is what was found. Raises Lost."""
        run = replace(self.run, upto=upto, detail={**self.run.detail, **found}, done=done)
        if not await self._store.runs.save(run):
            raise await _lost(self._purpose, self._store)
        self.run = run


async def _lost(purpose: Purpose, store: Store) -> Lost:
    return Lost(
        f"another {purpose.name} of {purpose.entity} has begun meanwhile: {await _who(purpose, store)}; nothing is lost, "
        "and the same command goes on from there once that one has ended"
    )


async def _who(purpose: Purpose, store: Store) -> str:
    """Who holds the lease, and since when where its run tells."""
    holder = await store.state.holder(purpose.lease)
    run = await store.runs.load(purpose.name, purpose.entity)
    if run is not None and holder in (None, run.holder):
        return f"{run.holder}, since {run.detail[SINCE]}"
    return holder or "it has just ended"
