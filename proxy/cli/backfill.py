"""`strangler backfill`: copy what the primary of an entity holds to the other side, while traffic runs."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import typer
import uvloop
from pydantic import TypeAdapter, ValidationError
from rich.console import Console

from adapters.side import Key, SideError
from config.model import Config
from config.schema import Schema
from config.units import Duration
from proxy import events
from proxy.app import Stores, parents_of
from proxy.cli.command import ConfigFile, Mistake, connected, read, stopped_by_signals
from proxy.flags.view import Flags
from proxy.migration.copy.backfill import NAME, WORKERS, Backfill
from proxy.migration.copy.rehearsal import Rehearsal
from proxy.migration.run.admission import admit
from proxy.migration.run.bars import Bars
from proxy.migration.run.following import Batches
from proxy.migration.run.health import Health
from proxy.migration.run.pace import Pace
from proxy.migration.run.patience import Patience
from proxy.migration.run.progress import Lines, Progress
from proxy.migration.run.shape import shape_of
from proxy.replication.settle import Settler
from proxy.replication.sweep import parents_first

_REFUSED: Final = 1
_BATCH: Final = 500
_ENDED: Final = 5.0
"""Seconds after the deadline of a write: then it has ended, whatever became of its writer."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the command line asks for. `keys` and `since`: only these."""

    entities: tuple[str, ...]
    rate: float | None
    keys: tuple[Key, ...] | None
    since: datetime | None
    restart: bool
    dry_run: bool
    patience: float
    workers: int


def backfill_command(
    entities: Annotated[list[str] | None, typer.Argument(help="The entities; none: all that settle")] = None,
    config: ConfigFile = None,
    rate: Annotated[float | None, typer.Option(min=1, help="At most so many documents a second")] = None,
    keys: Annotated[str | None, typer.Option(help="Only these keys: K,K… or @file or - (a key a line)")] = None,
    since: Annotated[
        str | None, typer.Option(help="Only what was created or changed since: 2026-01-31T12:00:00Z, or 2h ago as 2h")
    ] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Begin anew, not at the checkpoint")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and write nothing")] = False,
    patience: Annotated[str, typer.Option(help="How long a store may be away before it is given up")] = "10m",
    workers: Annotated[int, typer.Option(min=1, max=32, help="How many batches are worked on at once")] = WORKERS,
) -> None:
    """Settle everything that the primary of an entity holds: what was there before dualwrite.

    Exit status 0: all is copied; 1: some keys are refused, and in quarantine; 2: it could not be done.
    """
    found, settings, schema = read(config)
    names = _in_order(entities or [], found, schema)
    if keys is not None and (len(names) != 1 or not entities):
        raise Mistake("backfill --keys: expected exactly one entity")
    if keys is not None and since is not None:
        raise Mistake("backfill: expected --keys or --since, not both")
    asked = _Asked(
        names,
        rate,
        None if keys is None else _keys(keys),
        None if since is None else _since(since),
        restart,
        dry_run,
        _seconds("--patience", patience),
        workers,
    )
    on_terminal = sys.stdout.isatty()
    events.configure("auto", "error" if on_terminal else "warning")

    async def run() -> bool:
        async with connected(found, settings, schema) as stores:
            with _progress(on_terminal) as progress, stopped_by_signals():
                return await _Command(asked, bool(entities), found, schema, stores, progress).run()

    try:
        clean = uvloop.run(run())
    except SideError as error:
        raise Mistake(str(error)) from error
    if not clean:
        raise typer.Exit(_REFUSED)


class _Command:
    """The parts of one run of the command, wired."""

    def __init__(
        self, asked: _Asked, named: bool, config: Config, schema: Schema, stores: Stores, progress: Progress
    ) -> None:
        """`named`: the entities were asked for by name."""
        self._asked = asked
        self._named = named
        self._config = config
        self._schema = schema
        self._stores = stores
        self._progress = progress
        self._patience = Patience(asked.patience, progress.say)
        self._flags = Flags(config.entities, stores.by_side())

    async def run(self) -> bool:
        """Whether nothing was refused. Raises SideError."""
        await self._patience.through(self._stores.legacy.connect)
        await self._patience.through(self._flags.refresh)
        clean = True
        for entity in self._entities():
            await self._patience.through(partial(self._admit, entity))
            clean &= await (self._rehearse(entity) if self._asked.dry_run else self._copy(entity))
        return clean

    def _entities(self) -> Sequence[str]:
        """Those that settle, where none were named."""
        if self._named:
            return self._asked.entities
        settling = [entity for entity in self._asked.entities if self._flags.meaning(entity).settles]
        if not settling:
            raise Mistake("backfill: no entity settles; expected one at dualwrite or later")
        return settling

    async def _admit(self, entity: str) -> None:
        recorded = self._flags.meaning(entity).primary == "legacy" and self._stores.legacy.is_replica_set
        lasts = 0.0 if recorded else self._config.limits.write.total_seconds() + _ENDED
        await admit(entity, self._stores.by_side(), self._flags, lasts=lasts, waits=self._progress.say)

    async def _copy(self, entity: str) -> bool:
        stores, asked = self._stores, self._asked
        health = Health(stores.by_side(), stores.legacy, stores.engine)
        shapes = {name: shape_of(one, self._schema) for name, one in self._config.entities.items()}
        backfill = Backfill(
            stores.by_side(),
            self._flags,
            Settler(stores.by_side(), self._flags, parents_of(self._config, self._schema)),
            shapes=shapes,
            pace=Pace(asked.rate),
            patience=self._patience,
            progress=self._progress,
            watch=health.watch,
            workers=asked.workers,
        )
        source = self._source(entity)
        if source is None:
            copied = await backfill.everything(entity, restart=asked.restart)
        else:
            copied = await backfill.some(entity, source)
        return not copied.refused

    async def _rehearse(self, entity: str) -> bool:
        rehearsal = Rehearsal(
            self._stores.by_side(),
            self._flags,
            self._stores.mappers,
            parents_of(self._config, self._schema),
            pace=Pace(self._asked.rate),
            patience=self._patience,
            progress=self._progress,
        )
        source = self._source(entity)
        seen = await (rehearsal.everything(entity) if source is None else rehearsal.some(entity, source))
        return not seen.would_refuse

    def _source(self, entity: str) -> Batches | None:
        """Where the keys come from; None: everything."""
        keys, since = self._asked.keys, self._asked.since
        if since is not None:
            store = self._stores.by_side()[self._flags.meaning(entity).primary]
            return lambda: store.changed_since(entity, since, batch=_BATCH)
        return None if keys is None else lambda: _batches(keys)


async def _batches(keys: Sequence[Key]) -> AsyncIterator[list[Key]]:
    for at in range(0, len(keys), _BATCH):
        yield list(keys[at : at + _BATCH])


@contextmanager
def _progress(on_terminal: bool) -> Iterator[Progress]:
    if on_terminal:
        with Bars(Console()) as bars:
            yield bars
    else:
        yield Lines(NAME, sys.stdout.buffer)


def _in_order(entities: Sequence[str], config: Config, schema: Schema) -> tuple[str, ...]:
    """Parents first, whatever the order in which they were named."""
    for entity in entities:
        if entity not in config.entities:
            raise Mistake(f"backfill: unknown entity {entity}; expected one of {', '.join(config.entities)}")
    return tuple(one for one in parents_first(parents_of(config, schema)) if not entities or one in entities)


def _keys(text: str) -> tuple[Key, ...]:
    """From the argument itself, a file or standard input."""
    try:
        lines = sys.stdin.read().split() if text == "-" else text.split(",")
        if text.startswith("@"):
            lines = Path(text[1:]).read_text().split()
    except (OSError, UnicodeDecodeError) as error:
        raise Mistake(f"backfill --keys {text}: {type(error).__name__}; expected a file with a key a line") from None
    keys = tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not keys:
        raise Mistake(f"backfill --keys {text}: no keys; expected at least one")
    return keys


def _since(text: str) -> datetime:
    """A time, UTC unless it says otherwise, or how long ago."""
    try:
        at = datetime.fromisoformat(text)
        return at if at.tzinfo else at.replace(tzinfo=UTC)
    except ValueError:
        return datetime.now(UTC) - timedelta(seconds=_seconds("--since", text))


def _seconds(option: str, text: str) -> float:
    try:
        return TypeAdapter[timedelta](Duration).validate_python(text).total_seconds()
    except ValidationError:
        raise Mistake(f"backfill {option} {text}: expected a duration such as 30s, 10m or 2h") from None
