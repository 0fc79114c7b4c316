"""The command line: `strangler serve`, `flag`, `quarantine`, `check`, `inspect`, `backfill`, `demo`."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer
import uvloop
from rich.console import Console
from typer.exceptions import TyperException

from adapters.documents.mapping import RuleError
from adapters.mongo.store import existing_collections
from adapters.side import SideError
from config.faults import ConfigError
from config.load import load
from config.model import Config
from config.schema import Schema, SchemaMissing
from config.settings import Settings, SettingsError
from proxy import events
from proxy.cli.backfill import backfill_command
from proxy.cli.command import ConfigFile, Mistake, read
from proxy.cli.flag import flag_app
from proxy.cli.inspect import inspect_command
from proxy.cli.quarantine import quarantine_app
from proxy.cli.verify import verify_command
from proxy.cutover.coordinator import Refused
from proxy.migration.run.admission import NotSettling

_MISTAKE: Final = 2
_FAILED: Final = 1
_OURS: Final = "strangler_"
"""What the names of the proxy's own collections begin with: they tell nothing of the service's."""

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Moves live traffic from MongoDB to Prisma.")
app.add_typer(flag_app, name="flag")
app.add_typer(quarantine_app, name="quarantine")
app.command("inspect")(inspect_command)
app.command("backfill")(backfill_command)
app.command("verify")(verify_command)


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
    except (typer.Abort, KeyboardInterrupt, asyncio.CancelledError):
        status = 130
    sys.exit(status or 0)


def _say(text: str) -> None:
    for line in text.splitlines():
        sys.stderr.write(f"strangler: {line}\n")


def _read_with_collections(config: Path | None) -> tuple[Config, Settings, Schema]:
    """The same, checked against the database as well, where there is one with anything in it to be checked against."""
    found, settings, schema = read(config)
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
    workers: Annotated[int, typer.Option(min=1, help="How many processes serve, each a replica of its own")] = 1,
) -> None:
    """Run the proxy. SIGTERM stops it gracefully; with workers, SIGHUP replaces them by new ones."""
    from proxy import serve as server  # the web server is not needed by the other commands

    found, settings, schema = _read_with_collections(config)
    changes: dict[str, Any] = {k: v for k, v in (("host", host), ("port", port)) if v is not None}
    settings = settings.model_copy(update=changes)
    events.configure(settings.log, settings.log_level)
    try:
        if workers == 1:
            uvloop.run(server.serve(found, settings, schema))
            return
        from proxy import workers as master  # neither is gunicorn by one process alone

        status = master.serve(found, settings, schema, workers)
    except server.NotListening as error:
        _say(str(error))
        status = _FAILED
    raise typer.Exit(status)


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
