"""Two replicas before the same collections, a coordinator beside them, and ways to end it at any step of a flip."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from adapters.side import Flag, SideName
from config.load import load
from config.model import Entity, Stage
from config.schema import load_schema
from config.settings import read_settings
from proxy.app import Stores
from proxy.cli.command import connected, coordinator
from proxy.cutover.coordinator import Cutover
from proxy.cutover.flip import Reached, Step, unnoticed
from tests.proxy_case import COLLECTION_CONFIG, DEADLINE, Databases, Event, Running, another, fresh, running
from tests.subjects import NFT

ENTITY: Final = NFT.entity
STEPS: Final[tuple[Step, ...]] = ("fenced", "acknowledged", "drained", "turned", "decided", "copied")


class Killed(BaseException):
    """The coordinator's process has ended here: nothing of it runs any more."""


def killed_at(step: Step) -> Reached:
    async def kill(reached: Step) -> None:
        if reached == step:
            raise Killed

    return kill


@dataclass(frozen=True, slots=True)
class Pair:
    """Two replicas, and the stores as a command reaches them: by connections of its own."""

    one: Running
    two: Running
    apart: Stores

    @property
    def entities(self) -> Mapping[str, Entity]:
        environment = self.one.environment
        return load(Path(environment["STRANGLER_CONFIG"]), environment, load_schema()).entities

    @property
    def replicas(self) -> tuple[Running, Running]:
        return self.one, self.two

    def coordinator(self, reached: Reached = unnoticed) -> Cutover:
        """One more of them."""
        schema = load_schema()
        environment = self.one.environment
        return coordinator(
            load(Path(environment["STRANGLER_CONFIG"]), environment, schema), self.apart, schema, reached=reached
        )

    async def at(self, stage: Stage, epoch: int = 0) -> None:
        """Return once both replicas see the entity there, at this epoch or a later one, with nothing under way."""

        def is_seen() -> bool:
            flags = [replica.proxy.flags[ENTITY] for replica in self.replicas]
            return all(stands(flag, stage) and flag.epoch >= epoch for flag in flags)

        await self.one.until(is_seen, f"{stage} at epoch {epoch} or later")

    async def move(self, stage: Stage) -> None:
        """At shadow it is verified as well: whatever else a test asks, the guards let it go on."""
        await self.one.move(stage, [ENTITY])
        await self.at(stage)
        if stage == Stage.SHADOW:
            await self.one.verify(ENTITY)

    async def told(self) -> Flag:
        """The flag, once both stores hold the same one."""
        async with asyncio.timeout(DEADLINE):
            while True:
                known = await self.stored()
                held = {flag and (flag.epoch, flag.stage, flag.target, flag.term) for flag in known.values()}
                if len(held) == 1 and (flag := known["legacy"]):
                    return flag
                await asyncio.sleep(0.02)

    async def stored(self) -> dict[SideName, Flag | None]:
        """What each store holds."""
        sides = self.apart.by_side().items()
        return {
            side: next((flag for flag in await store.state.flags() if flag.entity == ENTITY), None)
            for side, store in sides
        }

    async def works(self) -> None:
        """A write through each replica is acknowledged, and settles."""
        for replica in self.replicas:
            key = await create(replica)
            await self.settled(key)

    async def settled(self, *keys: str) -> None:
        """Return once both sides hold the same of these keys."""
        async with asyncio.timeout(DEADLINE):
            for key in keys:
                while await self.one.on_legacy(ENTITY, key) != await self.one.on_prisma(ENTITY, key):
                    await asyncio.sleep(0.02)


def stands(flag: Flag, stage: Stage) -> bool:
    return flag.stage == stage and flag.target is None


async def create(replica: Running) -> str:
    answer = await replica.ask("POST", NFT.create, NFT.make(fresh(), ""))
    assert answer.status == NFT.created, answer.body
    return str(answer.data[NFT.id])


async def flip(cutover: Cutover, to: Stage, *, force: bool = False, reason: str = "") -> list[str]:
    return [line async for line in cutover.flip(ENTITY, to, "test", force=force, reason=reason)]


def holding_for(folder: Path, hold: str) -> Path:
    """The configuration without old servers, with this limit of a flip."""
    text = COLLECTION_CONFIG.read_text()
    assert "limits: {" in text
    changed = folder / "holding.yaml"
    changed.write_text(text.replace("limits: {", f"limits: {{ hold: {hold},", 1))
    return changed


@asynccontextmanager
async def pair_of(
    folder: Path, stores: Databases, *, config: Path | None = None, events: list[Event] | None = None
) -> AsyncIterator[Pair]:
    async with (
        running(folder, stores, via="collection", config=config, events=events) as one,
        another(one) as two,
    ):
        schema = load_schema()
        settings = read_settings(one.environment)
        found = load(settings.config, one.environment, schema)
        async with connected(found, settings, schema) as apart:
            yield Pair(one, two, apart)


async def audited(pair: Pair) -> dict[SideName, Sequence[tuple[str, str | None]]]:
    """The actions and notes that each store keeps of the entity, the newest last."""
    documents = pair.one.legacy["strangler_audit"].find({"entity": ENTITY}, sort=[("at", 1)])
    rows = await pair.one.sql(
        'SELECT "action", "note" FROM "strangler_audit" WHERE "entity" = $1 ORDER BY "at"', ENTITY
    )
    return {
        "legacy": [(found["action"], found["note"]) async for found in documents],
        "prisma": [(row["action"], row["note"]) for row in rows],
    }
