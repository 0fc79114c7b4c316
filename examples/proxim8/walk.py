"""The walk of the demo: five entities through all six stages, one of them back and forth, under traffic."""

import asyncio
from dataclasses import dataclass, field
from typing import Final

import aiohttp
from rich.progress import Progress, TaskID

from config.model import Stage
from examples.proxim8.client import Client
from examples.proxim8.gauges import mismatches, read_gauges
from examples.proxim8.overlap import Met, meet
from examples.proxim8.planted import Planted, plant
from examples.proxim8.reach import Reach
from examples.proxim8.stand import Stand
from examples.proxim8.tally import Tally
from examples.proxim8.traffic import Traffic
from proxy.migration.copy.backfill import Backfill
from proxy.migration.verification.verification import Status, Verification

_WHO: Final = "demo"
_ENOUGH: Final = 40
"""Comparisons of each entity, at each stage that compares, before it moves on."""
_LAST: Final = 4.0
"""Seconds of traffic at the last stage."""
_PATIENCE: Final = 90.0
"""Seconds that any one thing may take to happen."""


@dataclass(slots=True)
class Claims:
    """What the demo says at its end: each claim with whether it was seen to hold."""

    checked: list[tuple[str, bool]] = field(default_factory=list)

    def check(self, text: str, holds: bool) -> None:
        self.checked.append((text, holds))

    @property
    def hold(self) -> bool:
        return bool(self.checked) and all(holds for _, holds in self.checked)


class Walk:
    """The steps, and what was seen of each."""

    def __init__(self, proxim8: Stand, reached: Reach, traffic: Traffic, claims: Claims, progress: Progress) -> None:
        self._proxim8 = proxim8
        self._reach = reached
        self._traffic = traffic
        self._claims = claims
        self._progress = progress
        self.entities = list(reached.config.entities)
        self._bars: dict[str, TaskID] = {}
        self._visited: dict[str, list[str]] = {entity: ["off"] for entity in self.entities}
        self._planted = ""
        self.verified: dict[str, Verification] = {}

    async def run(self) -> None:
        """Raises TimeoutError where something that was waited for did not happen."""
        await self._seed()
        stop = asyncio.Event()
        running = asyncio.create_task(self._traffic.run(stop))
        try:
            await self._move_all(Stage.DUALWRITE)
            await self._copy()
            await self._move_all(Stage.SHADOW)
            await self._compared_enough(Stage.SHADOW)
            await self._plant()
            met = await self._meet()
            for entity in self.entities:
                await self._verify(entity)
                await self._move(entity, Stage.LIVE)
            await self._move("video", Stage.SHADOW)
            await self._verify("video")
            await self._move("video", Stage.LIVE)
            await self._compared_enough(Stage.LIVE)
            await self._rename(met)
            await self._move_all(Stage.RAMPDOWN)
        finally:
            stop.set()
            await running
        await self._verify_all()
        await self._finish()

    async def _seed(self) -> None:
        bar = self._progress.add_task("seed", total=None, note="creating documents through the old servers")
        seeded = await self._traffic.seed_documents()
        self._progress.update(bar, total=1, completed=1, note=f"{seeded.total} documents created")
        self._bars = {
            entity: self._progress.add_task(entity, total=len(Stage), completed=1, note="off")
            for entity in self.entities
        }

    async def _move(self, entity: str, to: Stage) -> None:
        async for step in self._reach.cutover.flip(entity, to, _WHO):
            self._progress.update(self._bars[entity], note=step)
        self._visited[entity].append(to.value)
        self._progress.update(self._bars[entity], completed=len(set(self._visited[entity])), note=to.value)

    async def _move_all(self, to: Stage) -> None:
        for entity in self.entities:
            await self._move(entity, to)

    async def _copy(self) -> None:
        """What was there before dualwrite began, settled like everything else, while traffic goes on."""
        await self._reach.flags.refresh()
        backfill = Backfill(self._reach.stores.by_side(), self._reach.flags, self._reach.settler)
        for entity in self.entities:
            done = await backfill.everything(entity)
            self._progress.update(self._bars[entity], note=f"{done.settled} documents copied")
            self._claims.check(
                f"{entity}: all {done.settled} documents could be copied", bool(done.settled) and not done.refused
            )

    async def _compared_enough(self, stage: Stage) -> None:
        """Wait until every entity has been compared often enough since now, and say what was found."""
        before = now = await read_gauges(self._proxim8)
        seen: dict[str, int] = {}
        async with asyncio.timeout(_PATIENCE):
            while min(seen.values(), default=0) < _ENOUGH:
                await asyncio.sleep(0.25)
                now = await read_gauges(self._proxim8)
                seen = {entity: now.judged(entity) - before.judged(entity) for entity in self.entities}
                for entity, count in seen.items():
                    self._progress.update(self._bars[entity], note=f"{stage}: {count} comparisons")
        for entity in self.entities:
            wrong = now.compared(entity, "mismatch") - before.compared(entity, "mismatch")
            self._claims.check(f"{entity}: {seen[entity]} comparisons at {stage}, none differs", not wrong)

    async def _plant(self) -> None:
        """Change one row behind the proxy's back: that row is reported."""
        bar = self._progress.add_task("plant", total=1, note="one row is changed behind the proxy's back")
        before = len(mismatches(self._proxim8))
        async with aiohttp.ClientSession() as session:
            client = Client(self._proxim8.url, session, Tally(), self._proxim8.secret)
            planted: Planted = await plant(client, self._reach.stores)
            self._planted = planted.key
            async with asyncio.timeout(_PATIENCE):
                while not (found := mismatches(self._proxim8)[before:]):
                    await planted.read()
                    await asyncio.sleep(0.25)
            said = ", ".join(found[0]["changes"])
            self._claims.check(f"the planted difference was reported: {said}", found[0]["key"] == planted.key)
            await planted.heal()
        self._progress.update(bar, completed=1, note=f"reported: {said}; healed by the next write")

    async def _meet(self) -> Met:
        async with aiohttp.ClientSession() as session:
            client = Client(self._proxim8.url, session, Tally(), self._proxim8.secret)
            return await meet(client, self._proxim8.environment["MONGO_URL"])

    async def _rename(self, met: Met) -> None:
        async with aiohttp.ClientSession() as session:
            client = Client(self._proxim8.url, session, Tally(), self._proxim8.secret)
            text = "account: who is in accounts and users is one account, and a change at live went back to both"
            self._claims.check(text, await met.rename(client))

    async def _verify(self, entity: str) -> None:
        """Under traffic: every key of both sides, in both directions. The next stage asks for it."""
        found = self.verified[entity] = await self._reach.verifier.verify(entity)
        said = found.conclusion()
        self._progress.update(self._bars[entity], note=said)
        self._claims.check(f"{entity}: verified at {found.stage} under traffic: {said}", found.status == Status.CLEAN)

    async def _verify_all(self) -> None:
        """The same with the traffic paused."""
        for entity in self.entities:
            await self._settled(entity)
            found = self.verified[entity] = await self._reach.verifier.verify(entity)
            holds = found.status == Status.CLEAN and bool(found.compared)
            self._claims.check(f"{entity}: {found.conclusion()}", holds)

    async def _settled(self, entity: str) -> None:
        """Nothing is left to settle: neither a mark in a store nor a key in the proxy."""
        marks = self._reach.stores.prisma.marks
        async with asyncio.timeout(_PATIENCE):
            while (await read_gauges(self._proxim8)).total("strangler_backlog", entity=entity) or await marks(
                entity, 1
            ):
                await asyncio.sleep(0.05)

    async def _finish(self) -> None:
        """The last stage, under traffic once more: only Prisma is left."""
        await self._move_all(Stage.COMPLETE)
        stop = asyncio.Event()
        running = asyncio.create_task(self._traffic.run(stop))
        await asyncio.sleep(_LAST)
        stop.set()
        result = await running
        for entity in self.entities:
            stages = self._visited[entity]
            self._claims.check(f"{entity}: went through {' '.join(stages)}", set(stages) == set(Stage))
        others = [event for event in mismatches(self._proxim8) if event["key"] != self._planted]
        self._claims.check("no mismatch but the planted one, from beginning to end", bool(self._planted) and not others)
        self._claims.check(f"{result.requests} requests, none failed", bool(result.requests) and not result.errors)
