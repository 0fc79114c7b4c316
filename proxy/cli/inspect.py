"""`strangler inspect`: what is in the legacy collections, and what of it the models cannot hold."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Annotated, Final

import typer
import uvloop
from rich.console import Console
from rich.text import Text

from adapters.engine import Engine
from adapters.mongo.reading import reading
from adapters.prisma.errors import translated
from adapters.prisma.indexes import PrismaIndex, table_indexes
from adapters.side import SideError
from config.model import Config
from config.schema import Schema
from config.settings import Settings
from proxy import events
from proxy.cli.command import ConfigFile, Mistake, read
from proxy.cli.inspect_tables import print_inspected
from proxy.migration.inspection.inspect import Inspector, NothingSuch, Told
from proxy.migration.inspection.inspection import Inspected
from proxy.migration.inspection.report import as_json

SAMPLE: Final = 10_000

Names = Annotated[list[str] | None, typer.Argument(help="Entities, or collections; without any, all entities")]


def inspect_command(
    names: Names = None,
    config: ConfigFile = None,
    sample: Annotated[int, typer.Option(min=1, help="About how many documents of each to look at")] = SAMPLE,
    everything: Annotated[bool, typer.Option("--all", help="Look at every document")] = False,
    deadline: Annotated[float, typer.Option(min=0.1, help="Seconds that one question may take")] = 60.0,
    as_one: Annotated[bool, typer.Option("--json", help="One JSON document instead of tables")] = False,
) -> None:
    """Look into legacy collections: fields, types, what the model cannot hold, duplicates, orphans, indexes, overlap; for a
    collection without a model, propose one. Nothing is written.

    Exit status 1: there is something that a model cannot hold; 2: something could not be asked.
    """
    found, settings, schema = read(config)
    events.configure("console", "critical")
    wanted = None if everything else sample
    inspected = uvloop.run(_inspect(names or [], found, settings, schema, wanted, deadline))
    if as_one:
        print(json.dumps(as_json(inspected)))
    else:
        print_inspected(inspected, Console())
    raise typer.Exit(inspected.status)


async def _inspect(
    names: list[str], config: Config, settings: Settings, schema: Schema, wanted: int | None, deadline: float
) -> Inspected:
    connect = config.limits.connect.total_seconds()
    try:
        async with (
            reading(settings.mongo_url, connect=connect, seconds=deadline) as legacy,
            _engine(config, settings, schema) as engine,
        ):

            async def indexes(table: str) -> list[PrismaIndex] | None:
                with translated():
                    await engine.connect()
                return await table_indexes(engine, table)

            with _progress() as told:
                return await Inspector(config, schema, legacy, indexes, wanted, told).inspect(names)
    except NothingSuch as error:
        raise Mistake(f"inspect: {error}") from None
    except SideError as error:
        raise Mistake(f"inspect: the legacy database does not say what is in it ({error})") from None


@asynccontextmanager
async def _engine(config: Config, settings: Settings, schema: Schema) -> AsyncIterator[Engine]:
    """Not started yet: a machine without it still learns what is in the legacy collections."""
    limits = config.limits
    engine = Engine(
        settings.database_url,
        pool=1,
        connect=limits.connect.total_seconds(),
        timeout=limits.read.total_seconds(),
        schema=schema,
        owner=settings.replica,
    )
    try:
        yield engine
    finally:
        await engine.disconnect()


@contextmanager
def _progress() -> Iterator[Told]:
    """A line on a terminal's standard error, nothing elsewhere."""
    with Console(stderr=True).status("reading") as status:

        def told(collection: str, read: int, of: int) -> None:
            status.update(Text(f"{collection}: {read:,} of {of:,} documents"))

        yield told
