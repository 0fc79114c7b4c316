"""What the commands begin with: the configuration, the environment and, for a while, both stores."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Annotated

import typer

from comparators.rules import Rules
from config.load import load
from config.model import Config
from config.schema import Schema, load_schema
from config.settings import Settings, read_settings
from proxy.app import Stores, build_stores, parents_of
from proxy.cutover.coordinator import Cutover
from proxy.cutover.flip import Reached, unnoticed
from proxy.flags.view import Flags
from proxy.migration.run.health import Health
from proxy.migration.run.pace import Pace
from proxy.migration.run.patience import Patience
from proxy.migration.run.progress import Progress
from proxy.migration.verification.verification import compared_shapes
from proxy.migration.verification.verify import Verifier
from proxy.replication.settle import Settler

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


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """SIGTERM ends the command as Ctrl-C does: what was done until the last checkpoint is kept."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


def coordinator(config: Config, stores: Stores, schema: Schema, *, reached: Reached = unnoticed) -> Cutover:
    """Who changes flags. `reached` is told of each step of a flip: for tests, which end it there."""
    return Cutover(
        config.entities,
        stores.by_side(),
        parents_of(config, schema),
        stores.legacy,
        compared_shapes(config, schema),
        hold=config.limits.hold.total_seconds(),
        verified=config.limits.verified.total_seconds(),
        reached=reached,
    )


def verifier(
    config: Config,
    stores: Stores,
    schema: Schema,
    flags: Flags,
    *,
    pace: Pace | None = None,
    patience: Patience | None = None,
    progress: Progress | None = None,
) -> Verifier:
    """Who says whether both sides hold the same."""
    return Verifier(
        stores.by_side(),
        stores.legacy,
        flags,
        Settler(stores.by_side(), flags, parents_of(config, schema)),
        rules={name: Rules.of(entity.compare) for name, entity in config.entities.items()},
        shapes=compared_shapes(config, schema),
        pace=pace,
        patience=patience,
        progress=progress,
        watch=Health(stores.by_side(), stores.legacy, stores.engine).watch,
    )
