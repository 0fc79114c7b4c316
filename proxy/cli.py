"""The command line: `strangler serve`, `flag`, `check`, `backfill`, `demo`."""

from __future__ import annotations

import asyncio
import getpass
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Final

import typer
import uvloop
from rich.console import Console
from rich.table import Table as RichTable
from typer.exceptions import TyperException

from adapters.mapping import RuleError
from adapters.mongo import existing_collections
from adapters.side import SideError
from config.faults import ConfigError
from config.load import load
from config.model import Config, Stage
from config.schema import Schema, SchemaMissing, load_schema
from config.settings import Settings, SettingsError, read_settings
from proxy import events
from proxy.app import Stores, build_stores, parents_of
from proxy.backfill import NotSettling, backfill
from proxy.cutover import Cutover, Refused
from proxy.flags import Flags
from proxy.settle import Settler

_MISTAKE: Final = 2
_FAILED: Final = 1
_SHOWN: Final = 20
_OURS: Final = "strangler_"
"""What the names of the proxy's own collections begin with: they tell nothing of the service's."""

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Moves live traffic from MongoDB to Prisma.")
flag_app = typer.Typer(no_args_is_help=True, help="Show and change the entities' flags.")
app.add_typer(flag_app, name="flag")

ConfigFile = Annotated[Path | None, typer.Option("--config", help="The configuration file [env: STRANGLER_CONFIG]")]


class Mistake(Exception):
    """What was asked cannot be done as it was asked: one line, exit status 2."""


def main() -> None:
    """Run the command line. Exit status 0: done; 1: it could not be done; 2: it was asked wrongly."""
    try:
        status = typer.main.get_command(app).main(standalone_mode=False)
    except TyperException as error:
        _say(error.format_message())
        status = _MISTAKE
    except (Mistake, Refused, NotSettling, ConfigError, SettingsError, SchemaMissing, RuleError) as error:
        _say(str(error))
        status = _MISTAKE
    except SideError as error:
        _say(str(error))
        status = _FAILED
    except (typer.Abort, KeyboardInterrupt):
        status = 130
    sys.exit(status or 0)


def _say(text: str) -> None:
    for line in text.splitlines():
        sys.stderr.write(f"strangler: {line}\n")


def _read(config: Path | None) -> tuple[Config, Settings, Schema]:
    environ: Mapping[str, str] = os.environ if config is None else {**os.environ, "STRANGLER_CONFIG": str(config)}
    settings = read_settings(environ)
    schema = load_schema()
    return load(settings.config, environ, schema), settings, schema


def _read_with_collections(config: Path | None) -> tuple[Config, Settings, Schema]:
    """The same, checked against the database as well, where there is one with anything in it to be checked against."""
    found, settings, schema = _read(config)
    existing = uvloop.run(existing_collections(settings.mongo_url)) or set()
    if any(not name.startswith(_OURS) for name in existing):
        found = load(settings.config, os.environ, schema, existing)
    return found, settings, schema


@app.command()
def check(config: ConfigFile = None) -> None:
    """Check the configuration and the environment, and say what is wrong."""
    found, settings, _ = _read_with_collections(config)
    routes = sum(len(entity.routes) for entity in found.entities.values())
    Console().print(f"{settings.config}: {len(found.entities)} entities, {routes} routes")


@app.command()
def serve(
    config: ConfigFile = None,
    host: Annotated[str | None, typer.Option(help="The address to listen on")] = None,
    port: Annotated[int | None, typer.Option(help="The port to listen on; 0 takes any that is free")] = None,
) -> None:
    """Run the proxy."""
    from proxy import serve as server  # the web server is not needed by the other commands

    found, settings, schema = _read_with_collections(config)
    changes: dict[str, Any] = {k: v for k, v in (("host", host), ("port", port)) if v is not None}
    settings = settings.model_copy(update=changes)
    events.configure(settings.log, settings.log_level)
    try:
        uvloop.run(server.serve(found, settings, schema))
    except server.NotListening as error:
        _say(str(error))
        raise typer.Exit(_FAILED) from None


@flag_app.command("list")
def flag_list(config: ConfigFile = None) -> None:
    """Show where every entity stands."""
    _with_cutover(config, _show_flags)


@flag_app.command("set")
def flag_set(
    entity: Annotated[str, typer.Argument(help="The entity, by its name in the configuration")],
    stage: Annotated[str | None, typer.Argument(help="The next stage, or the one before")] = None,
    config: ConfigFile = None,
    serve: Annotated[
        int | None, typer.Option(min=0, max=100, help="Percent of keys served by prisma at shadow")
    ] = None,
    sample: Annotated[int | None, typer.Option(min=0, max=100, help="Percent of reads that are compared")] = None,
) -> None:
    """Move an entity one stage onward or back, or change what share is served or compared."""
    if stage is None and serve is None and sample is None:
        raise Mistake(f"flag set {entity}: nothing to change; expected a stage, --serve or --sample")
    if stage is not None and stage not in set(Stage):
        raise Mistake(f"flag set {entity}: unknown stage {stage}; expected one of {', '.join(Stage)}")

    async def change(cutover: Cutover) -> None:
        console = Console()
        who = getpass.getuser()
        if serve is not None or sample is not None:
            flag = await cutover.tune(entity, who, serve=serve, sample=sample)
            console.print(f"{entity}: serve {flag.serve} %, sample {flag.sample} %, epoch {flag.epoch}")
        if stage is not None:
            async for step in cutover.flip(entity, Stage(stage), who):
                console.print(step)

    _with_cutover(config, change)


async def _show_flags(cutover: Cutover) -> None:
    table = RichTable("entity", "stage", "serve", "sample", "epoch", "changed", "by")
    for flag in (await cutover.flags()).values():
        stage = flag.stage if flag.target is None else f"{flag.stage} -> {flag.target} (fenced)"
        when = f"{flag.changed_at:%Y-%m-%d %H:%M:%S}" if flag.changed_at else ""
        table.add_row(flag.entity, stage, f"{flag.serve} %", f"{flag.sample} %", str(flag.epoch), when, flag.changed_by)
    Console().print(table)


def _with_cutover(config: Path | None, job: Callable[[Cutover], Awaitable[None]]) -> None:
    found, settings, schema = _read(config)
    events.configure("console", "error")

    async def run() -> None:
        async with connected(found, settings, schema) as stores:
            await job(Cutover(found.entities, stores.by_side(), parents_of(found, schema)))

    uvloop.run(run())


@asynccontextmanager
async def connected(config: Config, settings: Settings, schema: Schema) -> AsyncIterator[Stores]:
    """Both stores, for the time of a command; one that is away is known by what it is asked."""
    stores = build_stores(config, settings, schema)
    sides = stores.by_side().values()
    try:
        await asyncio.gather(*(side.connect() for side in sides), return_exceptions=True)
        yield stores
    finally:
        await asyncio.gather(*(side.disconnect() for side in sides))


@app.command("backfill")
def backfill_command(
    entities: Annotated[list[str], typer.Argument(help="The entities, parents first")], config: ConfigFile = None
) -> None:
    """Settle everything that the primary of an entity holds: what was there before dualwrite."""
    found, settings, schema = _read(config)
    for entity in entities:
        if entity not in found.entities:
            raise Mistake(f"backfill: unknown entity {entity}; expected one of {', '.join(found.entities)}")
    events.configure("console", "error")

    async def run() -> bool:
        console = Console()
        clean = True
        async with connected(found, settings, schema) as stores:
            flags = Flags(found.entities, stores.by_side().values())
            await flags.refresh()
            settler = Settler(stores.by_side(), flags, parents_of(found, schema))
            for entity in entities:
                done = await backfill(entity, stores.by_side(), flags, settler)
                console.print(f"{entity}: {done.settled} settled, {len(done.refused)} refused")
                for key, cause in islice(done.refused.items(), _SHOWN):
                    console.print(f"  {key}: {cause}", markup=False)
                clean &= not done.refused
        return clean

    if not uvloop.run(run()):
        raise typer.Exit(_FAILED)


@app.command()
def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running and print what to try")] = False,
) -> None:
    """Watch five entities move from Mongo to Prisma and back under traffic, on real servers."""
    try:
        from examples.proxim8.demo import run
    except ModuleNotFoundError as error:
        raise Mistake(f"demo: {error.name} is not here; expected to run in a clone, after its set-up") from None
    raise typer.Exit(asyncio.run(run(keep=keep)))
