"""What the commands begin with: the configuration, the environment and, for a while, both stores."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import typer

from config.load import load
from config.model import Config
from config.schema import Schema, load_schema
from config.settings import Settings, read_settings
from proxy.app import Stores, build_stores, parents_of
from proxy.cutover.coordinator import Cutover
from proxy.cutover.flip import Reached, unnoticed

ConfigFile = Annotated[Path | None, typer.Option("--config", help="The configuration file [env: STRANGLER_CONFIG]")]


class Mistake(Exception):
    """What was asked cannot be done as it was asked: one line, exit status 2."""


def read(config: Path | None) -> tuple[Config, Settings, Schema]:
    environ: Mapping[str, str] = os.environ if config is None else {**os.environ, "STRANGLER_CONFIG": str(config)}
    settings = read_settings(environ)
    schema = load_schema()
    return load(settings.config, environ, schema), settings, schema


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


def coordinator(config: Config, stores: Stores, schema: Schema, *, reached: Reached = unnoticed) -> Cutover:
    """Who changes flags. `reached` is told of each step of a flip: for tests, which end it there."""
    return Cutover(
        config.entities,
        stores.by_side(),
        parents_of(config, schema),
        stores.legacy,
        hold=config.limits.hold.total_seconds(),
        reached=reached,
    )
