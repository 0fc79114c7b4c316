"""`strangler verify`: whether both sides hold the same, key by key, and what is not."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import typer
import uvloop
from rich.console import Console
from rich.table import Table

from adapters.side import SideError
from config.model import Config
from config.schema import Schema
from proxy import events
from proxy.app import parents_of
from proxy.cli.command import ConfigFile, Mistake, connected, read, stopped_by_signals, verifier
from proxy.flags.view import Flags
from proxy.migration.run.bars import Bars
from proxy.migration.run.pace import Pace
from proxy.migration.run.patience import Patience
from proxy.migration.run.progress import Lines, Progress
from proxy.migration.verification.findings import Finding
from proxy.migration.verification.verification import Status, Verification
from proxy.migration.verification.verify import Asked, Verifier
from proxy.replication.sweep import parents_first

_SHOWN: Final = 10
"""Findings of each kind that a terminal is shown."""


def verify_command(
    entities: Annotated[list[str] | None, typer.Argument(help="Only these; otherwise all that settle")] = None,
    config: ConfigFile = None,
    repair: Annotated[bool, typer.Option("--repair", help="Settle what differs from the primary")] = False,
    sample: Annotated[
        float, typer.Option(help="Compare only so many percent of the keys, always the same ones")
    ] = 100.0,
    restart: Annotated[bool, typer.Option("--restart", help="Do not go on with a run that did not end")] = False,
    rate: Annotated[float | None, typer.Option(min=1, help="Documents a second, at most")] = None,
    report: Annotated[Path | None, typer.Option("--json", help="Write what was found to this file, as JSON")] = None,
) -> None:
    """Compare every key of both sides, in both directions, while traffic runs. Exit status 0: all the same; 1: something
    differs; 2: nobody can say."""
    if not 0 < sample <= 100:
        raise Mistake(f"verify: --sample {sample:g}; expected more than 0 and at most 100 percent")
    found, settings, schema = read(config)
    for entity in entities or ():
        if entity not in found.entities:
            raise Mistake(f"verify: unknown entity {entity}; expected one of {', '.join(found.entities)}")
    events.configure("auto", "error" if sys.stdout.isatty() else "warning")
    asked = Asked(sample=sample, repair=repair, restart=restart)

    async def run() -> _Runs:
        runs = _Runs()
        async with connected(found, settings, schema) as stores:
            by_side = stores.by_side()
            flags = Flags(found.entities, by_side)
            with _shown() as progress:
                patience = Patience(said=progress.say)
                for side in by_side.values():
                    await patience.through(side.connect)
                await flags.refresh()
                pace = Pace(rate)
                verify = verifier(found, stores, schema, flags, pace=pace, patience=patience, progress=progress)
                with stopped_by_signals():
                    for entity in entities or _settling(found, schema, flags):
                        await runs.add(verify, entity, asked)
        return runs

    runs = uvloop.run(run())
    runs.show()
    if report is not None:
        report.write_text(json.dumps([one.summary() for one in runs.ended], indent=2) + "\n")
    raise typer.Exit(runs.status)


class _Runs:
    """One after the other; what one of them cannot do keeps no other one from being done."""

    def __init__(self) -> None:
        self.ended: list[Verification] = []
        self.failed: dict[str, str] = {}

    @property
    def status(self) -> Status:
        """What differs is certain, whatever nobody could say of the others."""
        found = {one.status for one in self.ended}
        if Status.DIFFERENT in found:
            return Status.DIFFERENT
        return Status.UNKNOWN if self.failed or Status.UNKNOWN in found else Status.CLEAN

    async def add(self, verify: Verifier, entity: str, asked: Asked) -> None:
        try:
            self.ended.append(await verify.verify(entity, asked))
        except SideError as error:
            self.failed[entity] = str(error)

    def show(self) -> None:
        if sys.stdout.isatty() and self.ended:
            console = Console()
            console.print(_table(self.ended))
            for one in self.ended:
                for finding in one.samples(_SHOWN):
                    console.print(f"{one.entity} {_line(finding)}", markup=False, highlight=False)
        for entity, cause in self.failed.items():
            for line in f"verify {entity}: could not say: {cause}".splitlines():
                sys.stderr.write(f"strangler: {line}\n")


def _settling(config: Config, schema: Schema, flags: Flags) -> Sequence[str]:
    """The entities whose sides are kept in step, parents first."""
    names = [entity for entity in parents_first(parents_of(config, schema)) if flags.meaning(entity).settles]
    if not names:
        raise Mistake("verify: no entity is kept in step on both sides; expected one at dualwrite or later")
    return names


@contextmanager
def _shown() -> Iterator[Progress]:
    """A bar where somebody looks on; JSON lines otherwise."""
    if not sys.stdout.isatty():
        yield Lines("verify", sys.stdout.buffer)
        return
    with Bars(Console()) as bars:
        yield _Bars(bars)


class _Bars:
    """Bars that leave the results to the table."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self.begin = bars.begin
        self.show = bars.show
        self.say = bars.say

    def end(self, summary: Mapping[str, Any]) -> None:
        self._bars.end({"documents": summary["documents"], "seconds": round(summary["seconds"], 1)})


def _table(ended: Sequence[Verification]) -> Table:
    table = Table("entity", "at", "began", "ended", "config", "legacy", "prisma", "compared", "repaired", "verdict")
    for one in ended:
        at = f"{one.stage}, epoch {one.epoch}"
        counts = map(str, (one.looked["legacy"], one.looked["prisma"], one.compared, one.repaired))
        times = (f"{time:%Y-%m-%d %H:%M:%S}" if time else "" for time in (one.began, one.ended))
        table.add_row(one.entity, at, *times, one.config, *counts, one.conclusion())
    return table


def _line(finding: Finding) -> str:
    where = ", ".join(finding.paths) or finding.reason or ""
    return f"{finding.key}: {finding.kind}{f': {where}' if where else ''}"
