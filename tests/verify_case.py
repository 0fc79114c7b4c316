"""What the tests of verification stand on: both stores with a replicator and a follower between them, documents that have
settled, ways to spoil one behind everybody's back, and a verifier that tells of its steps."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from bson import ObjectId

from adapters.side import Key, Run, SideName
from comparators.rules import Rules
from config.load import load
from config.model import Compare, Config, Stage
from config.schema import load_schema
from proxy.flags.view import Flags
from proxy.migration.run.pace import Pace
from proxy.migration.run.patience import Patience
from proxy.migration.verification.verification import NAME, Verification, compared_shapes
from proxy.migration.verification.verify import Asked, Verifier
from proxy.replication.follow import Follower
from proxy.replication.settle import Settler
from proxy.replication.steps import Reached, Step, unnoticed
from proxy.replication.sweep import parents_first
from tests.proxy_case import DEADLINE
from tests.settle_case import Bench, Ground, Json, bench_at

ENTITY: Final = "nft_ownership"
QUICK: Final = Asked(patience=5.0, steady=0.2)


@dataclass(slots=True)
class Progressed:
    """What a run said while it worked."""

    shown: list[Mapping[str, int]] = field(default_factory=list)
    said: list[str | None] = field(default_factory=list)
    ended: Mapping[str, Any] = field(default_factory=dict)

    def begin(self, entity: str, total: int | None, done: int) -> None:
        pass

    def show(self, done: int, counts: Mapping[str, int]) -> None:
        self.shown.append(counts)

    def say(self, text: str | None) -> None:
        self.said.append(text)

    def end(self, summary: Mapping[str, Any]) -> None:
        self.ended = summary


@dataclass(frozen=True, slots=True)
class Case:
    """One entity, `nft_ownership`, at the stage of the bench."""

    bench: Bench
    follower: Follower
    config: Config

    @property
    def primary(self) -> SideName:
        return self.bench.flags.meaning(ENTITY).primary

    def verifier(
        self,
        *,
        reached: Reached = unnoticed,
        progress: Progressed | None = None,
        patience: Patience | None = None,
        pace: Pace | None = None,
        shapes: Mapping[str, Mapping[str, str]] | None = None,
        compare: Compare | None = None,
        workers: int = 4,
    ) -> Verifier:
        """With flags of its own, as a command has. It watches nothing: the pace is as fast as it can."""
        stores = self.bench.stores
        staged = {
            name: entity.model_copy(update={"stage": Stage(self.bench.flags[name].stage)})
            for name, entity in self.config.entities.items()
        }
        flags = Flags(staged, stores.by_side())
        return Verifier(
            stores.by_side(),
            stores.legacy,
            flags,
            Settler(stores.by_side(), flags, self.bench.parents),
            rules={name: Rules.of(compare or entity.compare) for name, entity in self.config.entities.items()},
            shapes=shapes or compared_shapes(self.config, load_schema()),
            progress=progress,
            patience=patience,
            pace=pace,
            workers=workers,
            reached=reached,
        )

    async def verify(self, asked: Asked = QUICK, *, repair: bool = False, **options: Any) -> Verification:
        async with asyncio.timeout(3 * DEADLINE):
            return await self.verifier(**options).verify(ENTITY, replace(asked, repair=repair))

    # Documents

    async def fill(self, count: int) -> list[Key]:
        """So many documents that have settled; their keys, in order."""
        keys = [str(await self.bench.insert(ENTITY, **nft())) for _ in range(count)]
        await self.quiet()
        return sorted(keys)

    async def quiet(self) -> None:
        """Everything that legacy was told of has settled."""
        async with asyncio.timeout(DEADLINE):
            await self.follower.caught_up()
            await self.bench.replicator.drained()

    async def change(self, key: Key, **fields: Any) -> None:
        done = await self.bench.legacy[ENTITY].update_one({"_id": ObjectId(key)}, {"$set": fields})
        assert done.matched_count == 1

    async def remove(self, key: Key) -> None:
        done = await self.bench.legacy[ENTITY].delete_one({"_id": ObjectId(key)})
        assert done.deleted_count == 1

    # Behind everybody's back

    async def spoil(self, key: Key, value: str = "spoilt") -> None:
        """Change the row."""
        await self._sql(f'UPDATE "{ENTITY}" SET "tokenId" = $2 WHERE "_id" = $1', key, value)

    async def lose(self, key: Key) -> None:
        """Delete the row."""
        await self._sql(f'DELETE FROM "{ENTITY}" WHERE "_id" = $1', key)

    async def plant(self, key: Key | None = None) -> Key:
        """A row that legacy has no document for."""
        key = key or str(ObjectId())
        await self._sql(
            f'INSERT INTO "{ENTITY}" ("_id", "nftId", "walletAddress", "contractAddress", "tokenId", "updatedAt")'
            " VALUES ($1, $2, 'w', 'c', 't', now())",
            key,
            secrets.token_hex(6),
        )
        return key

    async def _sql(self, statement: str, *values: Any) -> None:
        assert await self.bench.stores.engine.execute_raw(statement, *values) == 1

    async def token(self, key: Key) -> str | None:
        row = await self.bench.row(key, ENTITY)
        return None if row is None else row["tokenId"]

    # Runs

    async def run(self) -> Run:
        run = await self.bench.stores.by_side()[self.primary].runs.load(NAME, ENTITY)
        assert run is not None
        return run

    async def clear(self) -> None:
        """Nothing of the entity is anywhere: first where it is the truth."""
        engine = self.bench.stores.engine
        await engine.execute_raw(f'DELETE FROM "{ENTITY}"')
        await self.bench.legacy[ENTITY].delete_many({})
        await self.quiet()
        await engine.execute_raw(f'DELETE FROM "{ENTITY}"')
        await engine.execute_raw('DELETE FROM "strangler_run"')
        await engine.execute_raw('DELETE FROM "strangler_mark"')
        await self.bench.legacy["strangler_runs"].delete_many({})
        for store in self.bench.stores.by_side().values():
            for entity in await store.quarantine.sizes():
                await store.quarantine.take(entity, [one.key for one in await store.quarantine.refusals(entity)])


def stamped(**fields: Any) -> Json:
    """A legacy document, but for its id."""
    now = datetime.now(UTC).replace(microsecond=0)
    return {**nft(**fields), "createdAt": now, "updatedAt": now}


def nft(**fields: Any) -> Json:
    return {
        "nftId": secrets.token_hex(6),
        "walletAddress": "w",
        "contractAddress": "c",
        "tokenId": "t",
        "verified": True,
        **fields,
    }


def kinds(found: Verification) -> dict[Key, str]:
    return {finding.key: finding.kind for finding in found.findings.kept}


class At:
    """Does something when a run reaches a step for the n-th time, and the run waits for it."""

    def __init__(self, step: Step, number: int, do: Callable[[], Awaitable[None]]) -> None:
        self._step = step
        self.left = number
        self._do = do
        self.done = False

    async def __call__(self, step: Step) -> None:
        if step != self._step:
            return
        self.left -= 1
        if self.left == 0:
            await self._do()
            self.done = True


@asynccontextmanager
async def case_at(stage: Stage, ground: Ground) -> AsyncIterator[Case]:
    schema, environment = load_schema(), ground.environment
    config = load(Path(environment["STRANGLER_CONFIG"]), environment, schema)
    async with bench_at(stage, ground) as bench:
        follower = Follower(
            ground.stores.legacy,
            ground.stores.by_side(),
            parents_first(ground.parents),
            bench.flags,
            bench.replicator,
            bench.metrics,
            replica=f"follower-{secrets.token_hex(4)}",
        )
        await follower.start(patience=DEADLINE)
        try:
            yield Case(bench, follower, config)
        finally:
            await follower.stop()


class Stopped(Exception):
    """The run ends here, as if its process had."""


async def stop() -> None:
    raise Stopped


def is_spoilt_on_prisma(legacy: Json, prisma: Json) -> bool:
    """A comparator that lets a spoilt row pass, if it is given the two in their order."""
    return (legacy["tokenId"], prisma["tokenId"]) == ("t", "spoilt")
