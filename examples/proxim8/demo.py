"""`strangler demo`: Proxim8's traffic flows through the proxy while its five entities move from Mongo to Prisma, back,
and on to the end. Everything that it claims at the end, it has checked."""

import asyncio
import json
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from comparators.rules import Rules
from config.model import Stage
from examples.processes import temporary_folder
from examples.proxim8.client import Client
from examples.proxim8.planted import Planted, plant
from examples.proxim8.reach import Reach, reach
from examples.proxim8.stand import Stand, stand, stores
from examples.proxim8.tally import Tally
from examples.proxim8.traffic import Traffic, TrafficResult
from proxy import events
from proxy.backfill import backfill
from proxy.verify import Verified, verify

RATE = 60.0
"""Operations a second of the continuous traffic."""
_WHO = "demo"
_ENOUGH = 25
"""Comparisons of each entity, at each stage that compares, before it moves on."""
_PATIENCE = 60.0
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


async def run(*, keep: bool) -> int:
    """Exit status 0 only if everything that is claimed was checked and holds."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=120)
    events.configure("console", "error")
    begun = time.monotonic()
    with temporary_folder() as folder:
        console.print("Starting MongoDB, PostgreSQL, two old servers and the proxy …")
        async with stores(folder) as databases, stand(folder, databases) as proxim8, reach(proxim8) as reached:
            console.print(f"The proxy is at {proxim8.url}, its metrics at {proxim8.admin_url}/metrics")
            async with Traffic(proxim8.url, secret=proxim8.secret, rate=RATE) as traffic:
                claims = Claims()
                with _progress(console) as progress:
                    demo = Demo(proxim8, reached, traffic, claims, progress)
                    await demo.walk()
                console.print(await demo.table(traffic.result()))
                _say(console, claims, traffic.result(), time.monotonic() - begun)
            if keep:
                await _stay(console, proxim8)
    return 0 if claims.hold else 1


class Demo:
    """The walk, and what it saw."""

    def __init__(self, proxim8: Stand, reached: Reach, traffic: Traffic, claims: Claims, progress: Progress) -> None:
        self._proxim8 = proxim8
        self._reach = reached
        self._traffic = traffic
        self._claims = claims
        self._progress = progress
        self._entities = list(reached.config.entities)
        self._bars: dict[str, TaskID] = {}
        self._stop = asyncio.Event()
        self._visited: dict[str, list[str]] = {entity: ["off"] for entity in self._entities}
        self._verified: dict[str, Verified] = {}
        self._planted = ""

    async def walk(self) -> None:
        seeding = self._progress.add_task("seed", total=None, note="creating documents through the old servers")
        seeded = await self._traffic.seed_documents()
        self._progress.update(seeding, total=1, completed=1, note=f"{seeded.total} documents created")
        self._bars = {e: self._progress.add_task(e, total=len(Stage) + 1, note="off") for e in self._entities}
        running = asyncio.create_task(self._traffic.run(self._stop))
        try:
            await self._move_all(Stage.DUALWRITE)
            await self._copy()
            await self._move_all(Stage.SHADOW)
            await self._compared_enough(Stage.SHADOW)
            await self._plant()
            await self._move_all(Stage.LIVE)
            await self._roll_back("video")
            await self._compared_enough(Stage.LIVE)
            await self._move_all(Stage.RAMPDOWN)
        finally:
            self._stop.set()
            await running
        await self._verify()
        await self._finish()

    async def _move(self, entity: str, to: Stage) -> None:
        async for step in self._reach.cutover.flip(entity, to, _WHO):
            self._progress.update(self._bars[entity], note=step)
        self._visited[entity].append(to.value)
        self._progress.update(self._bars[entity], completed=len(set(self._visited[entity])), note=to.value)

    async def _move_all(self, to: Stage) -> None:
        for entity in self._entities:
            await self._move(entity, to)

    async def _copy(self) -> None:
        """What was there before dualwrite began, settled like everything else, while traffic goes on."""
        await self._reach.flags.refresh()
        for entity in self._entities:
            done = await backfill(entity, self._reach.stores.by_side(), self._reach.flags, self._reach.settler)
            self._progress.update(self._bars[entity], note=f"{done.settled} documents copied")
            self._claims.check(f"{entity}: every document could be copied", done.settled > 0 and not done.refused)

    async def _compared_enough(self, stage: Stage) -> None:
        """Wait until every entity has been compared often enough since this stage began, and say what was found."""
        before = await self._comparisons()
        async with asyncio.timeout(_PATIENCE):
            while True:
                now = await self._comparisons()
                seen = {entity: _judged(now, entity) - _judged(before, entity) for entity in self._entities}
                for entity, count in seen.items():
                    self._progress.update(self._bars[entity], note=f"{stage}: {count} comparisons")
                if min(seen.values()) >= _ENOUGH:
                    break
                await asyncio.sleep(0.25)
        for entity in self._entities:
            wrong = now[entity, "mismatch"] - before[entity, "mismatch"]
            self._claims.check(f"{entity}: {seen[entity]} comparisons at {stage}, none differs", wrong == 0)

    async def _plant(self) -> None:
        """Change one row behind the proxy's back: that row is reported, and nothing else is."""
        bar = self._progress.add_task("plant", total=1, note="one row is changed behind the proxy's back")
        before = len(self._mismatches())
        async with aiohttp.ClientSession() as session:
            client = Client(self._proxim8.url, session, Tally(), self._proxim8.secret)
            planted: Planted = await plant(client, self._reach.stores)
            async with asyncio.timeout(_PATIENCE):
                while not (found := self._mismatches()[before:]):
                    await planted.read()
                    await asyncio.sleep(0.25)
            self._planted = planted.key
            said = found[0]["changes"]
            self._claims.check(f"the planted difference was reported: {', '.join(said)}", "bio" in said[0])
            await planted.heal()
        self._progress.update(bar, completed=1, note=f"reported: {', '.join(said)}; healed by the next write")

    async def _roll_back(self, entity: str) -> None:
        for to in (Stage.SHADOW, Stage.LIVE):
            await self._move(entity, to)

    async def _verify(self) -> None:
        """With the traffic paused: every key of both sides, in both directions."""
        for entity in self._entities:
            await self._settled(entity)
            rules = Rules.of(self._reach.config.entities[entity].compare)
            found = self._verified[entity] = await verify(entity, self._reach.stores.by_side(), rules)
            self._claims.check(f"{entity}: all {found.compared} documents agree on both sides", found.clean)

    async def _settled(self, entity: str) -> None:
        """Nothing is left to settle: neither a mark in a store nor a key in the proxy."""
        async with asyncio.timeout(_PATIENCE):
            while await self._metric("strangler_backlog", entity) or await self._reach.stores.prisma.marks(entity, 1):
                await asyncio.sleep(0.05)

    async def _finish(self) -> None:
        """The last stage, under traffic once more: only Prisma is left."""
        await self._move_all(Stage.COMPLETE)
        stop = asyncio.Event()
        running = asyncio.create_task(self._traffic.run(stop))
        await asyncio.sleep(3)
        stop.set()
        result = await running
        for entity in self._entities:
            stages = self._visited[entity]
            self._claims.check(f"{entity}: went through {' '.join(stages)}", set(stages) == set(Stage))
        others = [event for event in self._mismatches() if event["key"] != self._planted]
        self._claims.check("no mismatch but the planted one, from beginning to end", bool(self._planted) and not others)
        self._claims.check(f"{result.requests} requests, none failed", result.requests > 0 and result.errors == 0)

    def _mismatches(self) -> list[dict[str, str]]:
        """The proxy's mismatch events so far."""
        lines = self._proxim8.proxy.log.read_text().splitlines()
        found = [json.loads(line) for line in lines if '"mismatch"' in line and line.startswith("{")]
        return [event for event in found if event["event"] == "mismatch"]

    async def _metrics(self) -> list[tuple[str, dict[str, str], float]]:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self._proxim8.admin_url}/metrics") as response,
        ):
            text = await response.text()
        return [
            (sample.name, sample.labels, sample.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        ]

    async def _metric(self, name: str, entity: str) -> float:
        return sum(v for found, labels, v in await self._metrics() if found == name and labels["entity"] == entity)

    async def _comparisons(self) -> Counter[tuple[str, str]]:
        """By entity and result."""
        counted: Counter[tuple[str, str]] = Counter()
        for name, labels, value in await self._metrics():
            if name == "strangler_comparisons_total":
                counted[labels["entity"], labels["result"]] += int(value)
        return counted

    async def table(self, result: TrafficResult) -> Table:
        table = Table(
            *(
                "entity",
                "requests",
                "errors",
                "comparisons",
                "mismatches",
                "raced",
                "lag p99",
                "legacy",
                "prisma",
                "agree",
            ),
            title="Five entities, six stages",
        )
        compared, metrics = await self._comparisons(), await self._metrics()
        for entity in self._entities:
            requests, errors = result.of(entity)
            found = self._verified[entity]
            cells = (
                requests,
                errors,
                _judged(compared, entity),
                compared[entity, "mismatch"],
                compared[entity, "lag"],
                _quantile(metrics, entity, 0.99),
                found.legacy,
                found.prisma,
                "yes" if found.clean else "NO",
            )
            table.add_row(entity, *map(str, cells))
        return table


def _judged(compared: Counter[tuple[str, str]], entity: str) -> int:
    return sum(compared[entity, result] for result in ("equal", "lag", "mismatch"))


def _quantile(metrics: list[tuple[str, dict[str, str], float]], entity: str, share: float) -> str:
    """The bucket of the settle lag that holds this share of it."""
    buckets = [
        (float(labels["le"]), value)
        for name, labels, value in metrics
        if name == "strangler_settle_lag_seconds_bucket" and labels["entity"] == entity
    ]
    total = max(value for _, value in buckets)
    bound = min(le for le, value in buckets if value >= share * total)
    return f"≤ {bound * 1000:g} ms"


def _progress(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description:<14}"),
        BarColumn(bar_width=20),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )


def _say(console: Console, claims: Claims, result: TrafficResult, seconds: float) -> None:
    for text, holds in claims.checked:
        console.print(f"[green]✓[/] {text}" if holds else f"[red]✗ {text}[/]", highlight=False)
    for trouble in result.troubles:
        console.print(f"[red]{trouble.entity} {trouble.route}: {trouble.what}[/]", highlight=False)
    verdict = "everything claimed was checked and holds" if claims.hold else "NOT everything holds"
    console.print(f"{len(claims.checked)} claims in {seconds:.0f} s: {verdict}.", highlight=False)


async def _stay(console: Console, proxim8: Stand) -> None:
    """Leave everything running until Ctrl-C, with lines to try."""
    exports = " ".join(f"{name}='{value}'" for name, value in proxim8.environment.items())
    console.print("\nEverything is still running; Ctrl-C ends it. In another terminal:", highlight=False)
    for line in (
        f"curl -i {proxim8.url}/api/videos/public?limit=2",
        f"curl -i {proxim8.url}/api/stats",
        f"curl -i {proxim8.url}/api/accounts/not-an-id",
        f"curl -s {proxim8.admin_url}/mismatches",
        f"env {exports} {Path('.venv/bin/strangler')} flag list",
        f"env {exports} {Path('.venv/bin/strangler')} flag set profile rampdown",
    ):
        console.print(f"  {line}", highlight=False, soft_wrap=True)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
