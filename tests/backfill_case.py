"""What the tests of the backfill stand on: profiles that nobody has been told of, backfills that stop where a test says so,
and what a table holds by its own account."""

from __future__ import annotations

import asyncio
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson
from bson import ObjectId

from adapters.side import Run
from config.load import load
from config.model import Stage
from config.schema import load_schema
from config.settings import read_settings
from proxy.app import build_stores
from proxy.migration.copy.backfill import NAME, Backfill
from proxy.migration.run.pace import Pace
from proxy.migration.run.patience import Patience
from proxy.migration.run.progress import Progress
from proxy.replication.settle import Settler
from proxy.replication.steps import Step
from tests.proxy_case import COLLECTION_CONFIG, DEADLINE
from tests.settle_case import Bench, Ground, Steps, bench_at

ROOT: Final = COLLECTION_CONFIG.parents[1]
SHAPE: Final = {"profile": {"title": "String?", "bio": "String?"}}

Json = dict[str, Any]


class At:
    """Does something when a step is reached for the n-th time; counts how often each was."""

    def __init__(self, step: Step, number: int, act: Callable[[], Awaitable[None]]) -> None:
        self._step, self._number, self._act = step, number, act
        self.seen: list[Step] = []

    async def __call__(self, step: Step) -> None:
        self.seen.append(step)
        if step == self._step and self.seen.count(step) == self._number:
            await self._act()


class Stopped(Exception):
    """A run that a test ends as if its process had been killed."""


async def stop() -> None:
    raise Stopped


@dataclass(frozen=True, slots=True)
class Copier:
    """A backfill over a bench, in batches of a few keys, one after the other. `writer` settles as the one who wrote does."""

    bench: Bench
    backfill: Backfill
    steps: Steps
    writer: Settler

    async def profiles(self, number: int, **fields: Any) -> list[str]:
        """So many, of one account, that nobody has been told of; in the order of their keys."""
        account = await self.bench.account()
        return [await self.bench.profile(account, **fields) for _ in range(number)]

    async def run(self) -> Run | None:
        return await self.bench.stores.legacy.runs.load(NAME, "profile")


def copier(
    bench: Bench,
    *,
    batch: int = 2,
    workers: int = 1,
    reached: Callable[[Step], Awaitable[None]] | None = None,
    shapes: Mapping[str, Mapping[str, str]] = SHAPE,
    patience: Patience | None = None,
    progress: Progress | None = None,
    holder: str | None = None,
) -> Copier:
    steps = Steps()
    stores = bench.stores.by_side()
    backfill = Backfill(
        stores,
        bench.flags,
        Settler(stores, bench.flags, bench.parents, reached=reached or steps),
        shapes=shapes,
        pace=Fixed(batch),
        patience=patience,
        progress=progress,
        holder=holder,
        workers=workers,
        reached=reached or steps,
    )
    return Copier(bench, backfill, steps, Settler(stores, bench.flags, bench.parents))


@asynccontextmanager
async def unhurried(ground: Ground) -> AsyncIterator[Bench]:
    """A bench at dualwrite whose calls may take a minute, on a machine that has other things to do."""
    schema = load_schema()
    config = load(COLLECTION_CONFIG, ground.environment, schema)
    minute = timedelta(minutes=1)
    limits = config.limits.model_copy(update={"connect": minute, "read": minute, "write": minute})
    built = build_stores(config.model_copy(update={"limits": limits}), read_settings(ground.environment), schema)
    stores = built.by_side().values()
    for store in stores:
        await store.connect()
    try:
        async with bench_at(Stage.DUALWRITE, replace(ground, stores=built)) as bench:
            yield bench
    finally:
        for store in stores:
            await store.disconnect()


class Fixed(Pace):
    """Batches of one size."""

    def __init__(self, size: int) -> None:
        super().__init__(size=size)

    async def took(self, documents: int, seconds: float) -> None:
        pass


async def table(bench: Bench, name: str = "profiles") -> list[Json]:
    """All rows, in the order of their keys."""
    rows = await bench.stores.engine.query_raw(f'SELECT row_to_json(t)::text AS row FROM "{name}" t ORDER BY "_id"')
    return [orjson.loads(row["row"]) for row in rows]


async def emptied(bench: Bench, *, stores: bool = False) -> None:
    """Nothing has been copied, and no run is known; with `stores`, nothing is there to be copied either."""
    for name in ("profiles", "videos", "notifications", "accounts"):
        await bench.stores.engine.execute_raw(f'DELETE FROM "{name}"')
        if stores:
            await bench.legacy[name].delete_many({})
    await bench.legacy["strangler_runs"].delete_many({})
    await bench.legacy["strangler_quarantine"].delete_many({})


def document(account: ObjectId, **fields: Any) -> Json:
    now = datetime.now(UTC).replace(microsecond=0)
    return {
        "_id": ObjectId(),
        "accountId": account,
        "username": secrets.token_hex(6),
        "createdAt": now,
        "updatedAt": now,
        **fields,
    }


async def killed(environment: Mapping[str, str], step: Step, number: int) -> None:
    """A backfill in a process of its own that is killed with SIGKILL when it has come to that step for the n-th time."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.backfill_killed", "profile", step, str(number)),
        cwd=ROOT,
        env={**environment, "PYTHONPATH": str(ROOT)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(3 * DEADLINE):
        _, error = await process.communicate()
    assert process.returncode == -signal.SIGKILL, error.decode()[-2000:]
