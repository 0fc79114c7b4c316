"""`strangler flag`: where every entity stands, and moving one."""

from __future__ import annotations

import getpass
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console
from rich.table import Table

from adapters.side import Flag
from config.model import Stage
from proxy import events
from proxy.cli.command import ConfigFile, Mistake, connected, coordinator, read
from proxy.cutover.coordinator import Cutover

flag_app = typer.Typer(no_args_is_help=True, help="Show and change the entities' flags.")

EntityName = Annotated[str, typer.Argument(help="The entity, by its name in the configuration")]


@flag_app.command("list")
def flag_list(config: ConfigFile = None) -> None:
    """Show where every entity stands."""
    _with_cutover(config, _show)


@flag_app.command("set")
def flag_set(
    entity: EntityName,
    stage: Annotated[str | None, typer.Argument(help="The next stage, or the one before")] = None,
    config: ConfigFile = None,
    serve: Annotated[
        int | None, typer.Option(min=0, max=100, help="Percent of keys served by prisma at shadow")
    ] = None,
    sample: Annotated[int | None, typer.Option(min=0, max=100, help="Percent of reads that are compared")] = None,
    force: Annotated[bool, typer.Option("--force", help="Go past the guards; it is audited")] = False,
    reason: Annotated[str, typer.Option(help="Why, for the audit")] = "",
) -> None:
    """Move an entity one stage onward or back, or change what share is served or compared."""
    if stage is None and serve is None and sample is None:
        raise Mistake(f"flag set {entity}: nothing to change; expected a stage, --serve or --sample")
    if stage is not None and stage not in set(Stage):
        raise Mistake(f"flag set {entity}: unknown stage {stage}; expected one of {', '.join(Stage)}")

    async def change(cutover: Cutover) -> None:
        who = getpass.getuser()
        if serve is not None or sample is not None:
            flag = await cutover.tune(entity, who, serve=serve, sample=sample)
            _print(f"{entity}: serve {flag.serve} %, sample {flag.sample} %, epoch {flag.epoch}")
        if stage is not None:
            async for step in cutover.flip(entity, Stage(stage), who, force=force, reason=reason):
                _print(step)

    _with_cutover(config, change)


@flag_app.command("cancel")
def flag_cancel(entity: EntityName, config: ConfigFile = None) -> None:
    """Take back the move that an entity is in, whoever began it: its writes go on where they went before."""

    async def cancel(cutover: Cutover) -> None:
        flag = await cutover.cancel(entity, getpass.getuser())
        _print(f"{entity}: {flag.stage}, epoch {flag.epoch}, writes go on")

    _with_cutover(config, cancel)


async def _show(cutover: Cutover) -> None:
    table = Table("entity", "stage", "serve", "sample", "epoch", "changed", "by")
    for flag in (await cutover.flags()).values():
        when = f"{flag.changed_at:%Y-%m-%d %H:%M:%S}" if flag.changed_at else ""
        shares = (f"{flag.serve} %", f"{flag.sample} %")
        table.add_row(flag.entity, _stands(flag), *shares, str(flag.epoch), when, flag.changed_by)
    Console().print(table)


def _stands(flag: Flag) -> str:
    return flag.stage if flag.target is None else f"{flag.stage} -> {flag.target} (fenced for {flag.age:.1f} s)"


def _print(line: str) -> None:
    Console(soft_wrap=True).print(line, markup=False, highlight=False)


def _with_cutover(config: Path | None, job: Callable[[Cutover], Awaitable[None]]) -> None:
    found, settings, schema = read(config)
    events.configure("console", "critical")

    async def run() -> None:
        async with connected(found, settings, schema) as stores:
            await job(coordinator(found, stores, schema))

    uvloop.run(run())
