"""Stretches of load in a scene, one after the other, each with its own documents and its own verdict."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from random import Random

from adapters.side import SideName
from config.model import Stage
from proxy.flags.stages import MEANINGS
from tests.faults.checker import QUIET, Verdict, check
from tests.faults.holdings import Reader, reading
from tests.faults.record import Record
from tests.faults.result import Result
from tests.faults.scene import Layout, Scene, scene
from tests.faults.workload import Load, Workload, working


class Ground:
    """A scene with what is needed to work and judge there. `stages` is where the entities are now; a campaign that moves one
    says so."""

    def __init__(self, scene: Scene, reader: Reader, rng: Random, result: Result) -> None:
        self.scene = scene
        self.reader = reader
        self.rng = rng
        self.result = result
        self.stages = dict(scene.layout.stages)
        self._run = f"r{rng.randrange(16**6):06x}"
        self._number = 0
        self._since = datetime.now(UTC)
        self._record = Record("")

    @property
    def primary(self) -> Mapping[str, SideName]:
        return {entity: MEANINGS[Stage(stage)].primary for entity, stage in self.stages.items()}

    @asynccontextmanager
    async def load(self, load: Load) -> AsyncIterator[Workload]:
        """A stretch of load; after it, `judged`."""
        self._number += 1
        self._since = datetime.now(UTC) - timedelta(seconds=0.1)
        prefix = f"{self._run}.{self._number}"
        async with working(
            lambda: [replica.url for replica in self.scene.live], self.scene.secret, load, self.rng, prefix
        ) as workload:
            self._record = workload.record
            yield workload

    async def judged(self, what: str, *, patience: float = QUIET, apart: Collection[str] = ()) -> Verdict:
        """Wait for quiet, compare, and add it to the result."""
        verdict = await check(self.reader, self._record, self.primary, self._since, patience=patience, apart=apart)
        self.result.take(self._record, verdict, what)
        return verdict


@asynccontextmanager
async def ground(layout: Layout, rng: Random, result: Result) -> AsyncIterator[Ground]:
    async with scene(layout) as stand, reading(stand.mongo_url, stand.database_url) as reader:
        yield Ground(stand, reader, rng, result)
