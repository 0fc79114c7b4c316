"""`strangler demo`: Proxim8's traffic flows through the proxy while its five entities move from Mongo to Prisma, back,
and on to the end. Everything that it claims at the end, it has checked."""

import asyncio
import signal
import time
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from adapters.side import SideError
from examples.commands import CommandFailed
from examples.processes import NotReady, temporary_folder
from examples.proxim8.gauges import Gauges, read_gauges
from examples.proxim8.reach import reach
from examples.proxim8.stand import Stand, stand, stores
from examples.proxim8.token import bearer
from examples.proxim8.traffic import Traffic, TrafficResult, Unexpected
from examples.proxim8.walk import Claims, Walk
from proxy import events
from proxy.cutover.coordinator import Refused
from proxy.migration.verification.verification import Status

_RATE: Final = 60.0
"""Operations a second of the continuous traffic."""
_WIDTH: Final = 120
_COLUMNS: Final = (
    *("entity", "requests", "errors", "comparisons", "mismatches", "raced", "lag p99", "legacy", "prisma", "agree"),
)


async def run(*, keep: bool) -> int:
    """The exit status: 0 only if everything that is claimed was checked and holds."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    events.configure("console", "error")
    try:
        with temporary_folder() as folder:
            console.print("Starting MongoDB, PostgreSQL, two old servers and the proxy …")
            async with stores(folder) as databases, stand(folder, databases) as proxim8:
                held = await _show(console, proxim8)
                if keep:
                    await _stay(console, proxim8)
    except (NotReady, CommandFailed) as error:
        console.print(f"[red]demo: {error}[/]", highlight=False)
        return 1
    return 0 if held else 1


async def _show(console: Console, proxim8: Stand) -> bool:
    """Walk, and say what was seen; whether all of it holds."""
    console.print(f"The proxy is at {proxim8.url}, its metrics are at {proxim8.admin_url}/metrics")
    begun = time.monotonic()
    claims = Claims()
    async with reach(proxim8) as reached, Traffic(proxim8.url, secret=proxim8.secret, rate=_RATE) as traffic:
        try:
            with _progress(console) as progress:
                walk = Walk(proxim8, reached, traffic, claims, progress)
                await walk.run()
            console.print(_table(walk, traffic.result(), await read_gauges(proxim8)))
        except (TimeoutError, Refused, SideError, Unexpected) as error:
            claims.check(f"the walk reached its end ({type(error).__name__}: {error})", False)
        result = traffic.result()
    for text, holds in claims.checked:
        console.print(f"[green]✓[/] {text}" if holds else f"[red]✗ {text}[/]", highlight=False)
    for trouble in result.troubles:
        console.print(f"[red]{trouble.entity} {trouble.route}: {trouble.what}[/]", highlight=False)
    verdict = "everything claimed was checked and holds" if claims.hold else "NOT everything holds"
    console.print(f"{len(claims.checked)} claims in {time.monotonic() - begun:.0f} s: {verdict}.", highlight=False)
    return claims.hold


def _table(walk: Walk, result: TrafficResult, gauges: Gauges) -> Table:
    """Requests, comparisons and lag from the whole run; the sides' counts from when they were verified."""
    table = Table(*_COLUMNS, title="Five entities, six stages")
    for entity in walk.entities:
        requests, errors = result.of(entity)
        found = walk.verified[entity]
        cells = (
            requests,
            errors,
            gauges.judged(entity),
            gauges.compared(entity, "mismatch"),
            gauges.compared(entity, "lag"),
            f"≤ {gauges.lag(entity, 0.99):g} ms",
            found.looked["legacy"],
            found.looked["prisma"],
            "yes" if found.status == Status.CLEAN else "NO",
        )
        table.add_row(entity, *map(str, cells))
    return table


def _progress(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description:<14}"),
        BarColumn(bar_width=20),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )


async def _stay(console: Console, proxim8: Stand) -> None:
    """Leave everything running until Ctrl-C, with lines to try."""
    exports = " ".join(f"{name}='{value}'" for name, value in proxim8.environment.items())
    console.print("\nEverything is still running; Ctrl-C ends it. In another terminal, from here:", highlight=False)
    for line in (
        f"curl -i '{proxim8.url}/api/videos/public?limit=2'",
        f"curl -i {proxim8.url}/api/stats",
        f"curl -i {proxim8.url}/api/accounts/not-an-id",
        f"curl -i -H 'Authorization: {bearer(proxim8.secret, '0xyou')}' {proxim8.url}/api/accounts/me",
        f"curl -s {proxim8.admin_url}/mismatches",
        f"env {exports} .venv/bin/strangler flag list",
        f"env {exports} .venv/bin/strangler flag set profile rampdown",
    ):
        console.print(f"  {line}", highlight=False, soft_wrap=True)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
