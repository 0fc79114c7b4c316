"""`strangler quarantine`: show the keys that the other side cannot take, try them again, or give them up."""

from __future__ import annotations

import getpass
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Final

import typer
import uvloop
from rich.console import Console
from rich.table import Table

from adapters.side import Key, Refusal, SideName, Store
from proxy import events
from proxy.app import parents_of
from proxy.cli.command import ConfigFile, Mistake, connected, read
from proxy.flags.view import Flags
from proxy.replication.quarantine import Quarantines
from proxy.replication.settle import Settler
from proxy.replication.sweep import parents_first

_FAILED: Final = 1
_BATCH: Final = 50
_MOST: Final = 10_000
"""Keys of one entity and side that are shown."""

quarantine_app = typer.Typer(no_args_is_help=True, help="Show what the other side cannot take, and try it again.")

AnEntity = Annotated[str | None, typer.Argument(help="Only this entity, by its name in the configuration")]


@dataclass(frozen=True, slots=True)
class _Ward:
    """What the commands work on. `entities` are those that were asked for, parents first."""

    stores: dict[SideName, Store]
    entities: tuple[str, ...]
    flags: Flags
    settler: Settler
    quarantines: Quarantines


@quarantine_app.command("list")
def quarantine_list(
    entity: AnEntity = None,
    config: ConfigFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON array instead of a table")] = False,
) -> None:
    """Show each key with the reason, and the store that it lies in: the one that was its primary."""

    async def show(ward: _Ward) -> bool:
        found = [
            (side, refusal)
            for entity in ward.entities
            for side, store in ward.stores.items()
            for refusal in await store.quarantine.refusals(entity, limit=_MOST)
        ]
        if as_json:
            print(json.dumps([_as_json(side, refusal) for side, refusal in found]))
        else:
            Console().print(_as_table(found))
        return True

    _run(config, entity, show)


@quarantine_app.command("retry")
def quarantine_retry(
    entity: AnEntity = None,
    keys: Annotated[list[str] | None, typer.Argument(help="Only these keys")] = None,
    config: ConfigFile = None,
) -> None:
    """Settle them now, and say what has settled and what is still refused. Exit status 1 where any is."""

    async def settle(ward: _Ward) -> bool:
        console, clean = Console(), True
        for one in ward.entities:
            meaning = ward.flags.meaning(one)
            if not meaning.settles:
                console.print(f"{one}: settles nothing at {ward.flags[one].stage}")
                continue
            store = ward.stores[meaning.primary]
            async for batch in _given(keys) if keys else _kept(store, one):
                done = await ward.quarantines.retry(meaning.primary, one, batch, ward.settler)
                for key in sorted(done.settled):
                    console.print(f"{one} {key}: settled", markup=False, highlight=False)
                for key, reason in sorted(done.refused.items()):
                    console.print(f"{one} {key}: still refused: {reason}", markup=False, highlight=False)
                clean &= not done.refused
        return clean

    _run(config, entity, settle)


@quarantine_app.command("discard")
def quarantine_discard(
    entity: Annotated[str, typer.Argument(help="The entity, by its name in the configuration")],
    keys: Annotated[list[str], typer.Argument(help="The keys to give up")],
    config: ConfigFile = None,
) -> None:
    """Give keys up: the sides go on differing in them until their documents change. Who did it is kept in the audit."""

    async def give_up(ward: _Ward) -> bool:
        flag = ward.flags[entity]
        entry = {
            "entity": entity,
            "who": getpass.getuser(),
            "action": "discard",
            "fromStage": flag.stage,
            "toStage": flag.stage,
            "epoch": flag.epoch,
            "note": f"{len(keys)} keys: {', '.join(keys)}",
        }
        # Said before it is done, so that nothing is ever given up by nobody.
        for store in ward.stores.values():
            await store.state.audit(entry)
        gone = sum([await store.quarantine.take(entity, keys) for store in ward.stores.values()])
        Console().print(f"{entity}: {gone} of {len(keys)} keys discarded", highlight=False)
        return gone == len(keys)

    _run(config, entity, give_up)


def _run(config: Path | None, entity: str | None, job: Callable[[_Ward], Awaitable[bool]]) -> None:
    """Do it on both stores; exit status 1 where it answers False."""
    found, settings, schema = read(config)
    if entity is not None and entity not in found.entities:
        raise Mistake(f"quarantine: unknown entity {entity}; expected one of {', '.join(found.entities)}")
    events.configure("console", "critical")

    async def run() -> bool:
        async with connected(found, settings, schema) as stores:
            by_side, parents = stores.by_side(), parents_of(found, schema)
            flags = Flags(found.entities, by_side)
            await flags.refresh()
            asked = parents_first(parents) if entity is None else (entity,)
            return await job(_Ward(by_side, asked, flags, Settler(by_side, flags, parents), Quarantines(by_side)))

    if not uvloop.run(run()):
        raise typer.Exit(_FAILED)


async def _kept(store: Store, entity: str) -> AsyncIterator[list[Key]]:
    """Every key that is in quarantine now, once. Those that are refused again come last in the next look."""
    seen: set[Key] = set()
    while fresh := [one.key for one in await store.quarantine.refusals(entity) if one.key not in seen]:
        seen.update(fresh)
        async for batch in _given(fresh):
            yield batch


async def _given(keys: Sequence[Key]) -> AsyncIterator[list[Key]]:
    rest = iter(keys)
    while batch := list(islice(rest, _BATCH)):
        yield batch


def _as_table(found: Sequence[tuple[SideName, Refusal]]) -> Table:
    table = Table("entity", "key", "in", "reason", "since", "tries", "last try")
    for side, one in found:
        since = f"{one.since:%Y-%m-%d %H:%M:%S}"
        table.add_row(one.entity, one.key, side, one.reason, since, str(one.tries), f"{one.age:.0f} s ago")
    return table


def _as_json(side: SideName, one: Refusal) -> dict[str, str | int | float]:
    return {
        "entity": one.entity,
        "key": one.key,
        "side": side,
        "reason": one.reason,
        "since": one.since.isoformat(),
        "tries": one.tries,
        "age": one.age,
    }
