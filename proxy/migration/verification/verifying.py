"""Verifying one entity: what is done to each range of its keys, and to what was found in them."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Final

from adapters.side import Key, Range, SideError, SideName, Stale, Store, Unavailable
from proxy.flags.view import Flags
from proxy.migration.run.following import Everything
from proxy.migration.run.keeping import Checkpoint
from proxy.migration.run.pace import Pace
from proxy.migration.run.patience import Patience
from proxy.migration.run.progress import Progress
from proxy.migration.run.walk import walk
from proxy.migration.verification.confirm import Confirm
from proxy.migration.verification.findings import Finding
from proxy.migration.verification.mend import Mend
from proxy.migration.verification.scan import Scan, Scanned
from proxy.migration.verification.verification import Phase, Verification
from proxy.replication.steps import Reached

_SUSPECTS: Final = 1000
"""Suspects that are gathered before they are looked at: what lags has mostly settled by then."""


class Turned(SideError):
    """The entity's primary has changed: what was compared is of before."""


class Verifying:
    """What has been found is `found`; the checkpoint has it as it was after the last range, with the place."""

    def __init__(
        self,
        found: Verification,
        checkpoint: Checkpoint,
        stores: Mapping[SideName, Store],
        scan: Scan,
        confirm: Confirm,
        mend: Mend | None,
        flags: Flags,
        pace: Pace,
        patience: Patience,
        progress: Progress,
        workers: int,
        reached: Reached,
    ) -> None:
        self.found = found
        self._checkpoint = checkpoint
        self._stores = stores
        self._scan = scan
        self._confirm = confirm
        self._mend = mend
        self._flags = flags
        self._pace = pace
        self._patience = patience
        self._progress = progress
        self._workers = workers
        self._reached = reached
        self._since = time.monotonic()

    async def all(self) -> None:
        """Whatever is left to do. Raises Turned, Lost or GivenUp."""
        primary = self.found.primary
        secondary: SideName = "prisma" if primary == "legacy" else "legacy"
        if self.found.phase == "forward":
            await self._walk(primary, self._scan.forward, then="backward")
        if self.found.phase == "backward":
            await self._walk(secondary, self._scan.backward, then="again")
        await self._clear()
        await self._keep(None)
        await self._look_again()
        await self.check_primary()
        await self.end(await self._patience.through(self._emptiness) if self.found.is_empty else None)

    async def end(self, unsaid: str | None) -> None:
        """Nothing is left to do; or, where it says why, nothing of it counts."""
        self.found.unsaid = unsaid
        self.found.phase = "ended"
        self.found.ended = datetime.now(UTC)
        await self._keep(None, done=True)

    async def check_primary(self) -> None:
        """Raises Turned where the entity has changed sides since the run was begun, SideError where neither store answers.
        One that went there and back has forgotten the run (`verification.forget`): it cannot be saved any more."""
        await self._flags.refresh()
        flag, meaning = self._flags[self.found.entity], self._flags.meaning(self.found.entity)
        if meaning.primary != self.found.primary or not meaning.settles:
            raise Turned(
                f"{flag.changed_by} moved it to {flag.stage} meanwhile, epoch {self.found.epoch} -> {flag.epoch}"
            )

    # Walking

    async def _walk(self, side: SideName, scan: Callable[[Range], Awaitable[Scanned]], *, then: Phase) -> None:
        place = self._checkpoint.run.upto
        following = Everything(self._stores[side], self.found.entity, place, self._pace, self._patience)

        async def work(found: Range) -> Scanned:
            await self._pace.allow(len(found.keys))
            begun = time.monotonic()
            scanned = await self._patience.through(partial(scan, found))
            await self._pace.took(len(found.keys), time.monotonic() - begun)
            return scanned

        async def landed(found: Range, scanned: Scanned) -> None:
            self.found.looked[side] += len(found.keys)
            self.found.compared += scanned.compared
            self.found.suspects += scanned.suspects
            if len(self.found.suspects) >= _SUSPECTS:
                await self._clear()
            await self._keep(found.upto)

        await walk(following, work, landed, workers=self._workers)
        self.found.phase = then
        await self._keep(None)

    async def _keep(self, upto: str | None, *, done: bool = False) -> None:
        now = time.monotonic()
        self.found.seconds += now - self._since
        self._since = now
        await self._reached("landed")
        await self._patience.through(partial(self._checkpoint.save, upto, self.found.detail(), done=done))
        await self._reached("kept")
        self._progress.show(sum(self.found.looked.values()), self.found.counts())

    # What was found

    async def _clear(self) -> None:
        """Nobody is a suspect any more: each is a finding, or nothing."""
        if suspects := list(dict.fromkeys(self.found.suspects)):
            wrong = await self._mended(await self._confirmed(suspects))
            self.found.findings.add(wrong.values())
            self.found.suspects = []

    async def _look_again(self) -> None:
        """What was found may be of a process before this one, or have been written since: a fresh look counts."""
        if keys := [finding.key for finding in self.found.findings.kept]:
            wrong = await self._confirmed(keys)
            self.found.agreed += len(keys) - len(wrong)
            wrong = await self._mended(wrong)
            self.found.findings.drop(keys)
            self.found.findings.add(wrong.values())

    async def _confirmed(self, keys: Sequence[Key]) -> dict[Key, Finding]:
        return await self._patience.through(partial(self._confirm, keys))

    async def _mended(self, wrong: dict[Key, Finding]) -> dict[Key, Finding]:
        """What is still wrong after the repair, where one was asked for."""
        keys = [key for key, finding in wrong.items() if finding.kind != "unsettled"]
        if self._mend is None or not keys:
            return wrong
        await self._patience.through(partial(self._settle, self._mend, keys))
        left = await self._confirmed(keys)
        self.found.repaired += len(keys) - len(left)
        return {key: finding for key, finding in wrong.items() if key not in keys} | left

    async def _settle(self, mend: Mend, keys: Sequence[Key]) -> None:
        try:
            await mend(keys)
        except Stale as stale:
            await self.check_primary()
            # A flip was begun and taken back, and not every store has heard of it.
            raise Unavailable(str(stale)) from stale

    async def _emptiness(self) -> str | None:
        """Neither side had a key to walk over. None: by their own account they have none either; or what they have."""
        counts = {side: await store.count(self.found.entity) for side, store in self._stores.items()}
        some = [f"{side} has {count}" for side, count in counts.items() if count]
        return f"nothing was compared, but {' and '.join(some)}" if some else None
