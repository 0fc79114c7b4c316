"""Moving the data: backfill and verify of videos with their accounts, beside straight scripts, in one run and interleaved.

The commands are measured as they are used: as processes of their own, beside a running proxy. The collection is seeded once.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

import orjson

from bench.figure import Figure
from bench.move_command import Done, done
from bench.move_ground import ENTITIES, Ground, accounts_of, database, empty, ground
from bench.move_traffic import Noticed, measure_traffic
from bench.open_loop import quantile
from examples.commands import run
from examples.processes import temporary_folder
from examples.proxim8.stand import ROOT, stores

VIDEOS: Final = 200_000

_ROUNDS: Final = 3
_PART: Final = 10
"""Prisma's `createMany` would take minutes: it is given one in so many, the first ones."""
_SMALL: Final = 10
"""The memory of moving a collection is compared with that of moving one so many times smaller."""


@dataclass(frozen=True, slots=True)
class Moved:
    """One round of ours: the first backfill, one with nothing changed, and a verification."""

    first: Done
    again: Done
    verified: Done


@dataclass(frozen=True, slots=True)
class Round:
    """`create` and `copy`: documents a second of the straight scripts."""

    ours: Moved
    create: float
    copy: float


async def measure(videos: int = VIDEOS) -> list[Figure]:
    """Takes some minutes with as many videos as is said above."""
    with temporary_folder() as folder:
        async with stores(folder, durable=True) as servers:
            name = f"bench_{secrets.token_hex(4)}"
            async with ground(folder, servers, f"{name}_small", videos // _SMALL) as here:
                small = await _moved(here)
            async with ground(folder, servers, name, videos) as here, database(servers, f"{name}_peer") as peer:
                rounds = [await _round(here, peer, turn) for turn in range(_ROUNDS)]
                noticed = await measure_traffic(here)
    return [*_speed(rounds), *_traffic(noticed), *_memory(rounds, small)]


async def _round(here: Ground, peer: str, turn: int) -> Round:
    """Each once; every other round in the opposite order, so that what drifts hits all alike."""
    moved: list[Moved] = []
    peers: dict[str, float] = {}

    async def ours() -> None:
        moved.append(await _moved(here))

    async def create() -> None:
        peers["create"] = await _copied(here, peer, "create", here.videos // _PART)

    async def copy() -> None:
        peers["copy"] = await _copied(here, peer, "copy", here.videos)

    parts: list[Callable[[], Awaitable[None]]] = [create, ours, copy]
    for part in parts if turn % 2 == 0 else reversed(parts):
        await part()
    return Round(moved[0], **peers)


async def _moved(here: Ground) -> Moved:
    await here.empty()
    return Moved(*[await _done(here, command) for command in ("backfill", "backfill", "verify")])


async def _done(here: Ground, command: str) -> Done:
    """Raises ValueError where it was about fewer documents than there are, or more."""
    ended = await done(here.proxim8.environment, command, *ENTITIES)
    if ended.documents != here.documents:
        raise ValueError(f"{command} was about {ended.documents} documents, and there are {here.documents}")
    return ended


async def _copied(here: Ground, peer: str, way: str, videos: int) -> float:
    """Documents a second. Raises ValueError where it copied fewer than it was to."""
    await empty(peer)
    accounts = accounts_of(videos)
    urls = here.proxim8.stores.mongo_url, peer
    argv: list[str | Path] = [sys.executable, "-m", "bench.peer_copy", way, *urls, str(accounts), str(videos)]
    copied: Mapping[str, float] = orjson.loads(await run(argv, cwd=ROOT, seconds=300))
    if copied["documents"] != accounts + videos:
        raise ValueError(f"the peer copied {copied['documents']} of {accounts + videos} documents")
    return copied["documents"] / copied["seconds"]


def _speed(rounds: Sequence[Round]) -> list[Figure]:
    ours = [each.ours for each in rounds]

    def to_first(rate: Callable[[Round], float]) -> float:
        return median(each.ours.first.per_second / rate(each) for each in rounds)

    def middle(of: Callable[[Moved], float]) -> float:
        return median(of(each) for each in ours)

    create, copy = "PyMongo and Prisma createMany", "PyMongo and asyncpg COPY"
    return [
        Figure(f"backfill, to {create}", to_first(lambda each: each.create), "ratio", ">= 0.70", create),
        Figure(f"backfill, to {copy}, the limit", to_first(lambda each: each.copy), "ratio", ">= 0.25", copy),
        Figure("backfill", middle(lambda each: each.first.per_second), "1/s"),
        Figure("backfill, start-up included", middle(lambda each: each.first.documents / each.first.whole), "1/s"),
        Figure(
            "backfill again with nothing changed, to the first",
            middle(lambda each: each.again.seconds / each.first.seconds),
            "ratio",
            "<= 0.50",
            "the first",
        ),
        Figure(
            "verify, to backfill",
            middle(lambda each: each.verified.per_second / each.first.per_second),
            "ratio",
            ">= 2.00",
            "backfill",
        ),
        Figure("verify", middle(lambda each: each.verified.per_second), "1/s"),
        Figure("verify, start-up included", middle(lambda each: each.verified.documents / each.verified.whole), "1/s"),
        Figure("start-up of a command", middle(lambda each: each.first.whole - each.first.seconds), "s"),
        Figure(create, median(each.create for each in rounds), "1/s"),
        Figure(copy, median(each.copy for each in rounds), "1/s"),
    ]


def _traffic(noticed: Noticed) -> list[Figure]:
    beside, without = (quantile(taken, 0.99) for taken in (noticed.beside, noticed.without))
    return [
        Figure("client p99 beside a throttled backfill, to without", beside / without, "ratio", "<= 1.30", "without"),
        Figure("client p99 at shadow without a backfill", without, "ms"),
    ]


def _memory(rounds: Sequence[Round], small: Moved) -> list[Figure]:
    """The peaks, to those with fewer documents. None where this system does not tell them."""
    figures = []
    for what, of in _COMMANDS.items():
        before, after = of(small).peak, [of(each.ours).peak for each in rounds]
        command, engine = (median(peak.command for peak in after), median(peak.engine for peak in after))
        if before.command and before.engine:
            figures += [
                Figure(f"memory of {what}, to {_SMALL} times fewer", command / before.command, "ratio", "<= 1.10"),
                Figure(f"memory of {what}", command / 2**20, "MiB"),
                Figure(f"memory of {what}'s engine, to {_SMALL} times fewer", engine / before.engine, "ratio"),
                Figure(f"memory of {what}'s engine", engine / 2**20, "MiB"),
            ]
    return figures


_COMMANDS: Final[Mapping[str, Callable[[Moved], Done]]] = {
    "backfill": lambda moved: moved.first,
    "verify": lambda moved: moved.verified,
}
