"""Answering beacons: whoever follows the change stream tells the others what has become of what they wrote."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from typing import Final

import structlog
from bson import ObjectId

from adapters.mongo.beacons import Answer, Beacons
from adapters.mongo.stream_events import Beacon
from adapters.side import SideError
from proxy.metrics import Metrics
from proxy.replication.repair import Repairs
from proxy.replication.replicator import Replicator
from proxy.tasks import Tasks

log = structlog.get_logger()

_OUTSTANDING: Final = 64
_DEADLINE: Final = 30.0
"""Seconds after which an answer is given up; who still wants it asks again each second."""


class Answering:
    """Takes beacons in the order of the stream, and answers each once what was heard before it has been tried. The stream
    goes on meanwhile. One of an asker is outstanding at a time: its last."""

    def __init__(
        self,
        beacons: Beacons,
        entities: Collection[str],
        replicator: Replicator,
        repairs: Repairs,
        metrics: Metrics,
        *,
        replica: str,
    ) -> None:
        self._beacons = beacons
        self._entities = entities
        self._replicator = replicator
        self._repairs = repairs
        self._metrics = metrics
        self._replica = replica
        self._outstanding: dict[str, tuple[ObjectId, asyncio.Task[None]]] = {}
        self._tasks = Tasks()

    def take(self, beacon: Beacon) -> None:
        id, answering = self._outstanding.get(beacon.asker, (None, None))
        if id == beacon.id:
            return
        if answering:
            answering.cancel()
        elif len(self._outstanding) >= _OUTSTANDING:
            self._metrics.shed.labels("beacon").inc()
            return
        task = self._tasks.start(f"answer-{beacon.asker}", self._answer(beacon))
        self._outstanding[beacon.asker] = (beacon.id, task)

    def now(self, entities: Iterable[str]) -> Answer:
        """The answer as it is at this moment."""
        asked = tuple(entities)
        return Answer(
            self._replica,
            {entity: self._replicator.changes(entity) for entity in asked},
            {entity: self._replicator.backlog(entity) + self._repairs.pending(entity) for entity in asked},
        )

    async def stop(self) -> None:
        await self._tasks.stop()

    async def _answer(self, beacon: Beacon) -> None:
        known = tuple(entity for entity in beacon.entities if entity in self._entities)
        try:
            async with asyncio.timeout(_DEADLINE):
                await asyncio.gather(*(self._replicator.tried(entity) for entity in known))
            await self._beacons.answer(beacon, self.now(known))
        except (SideError, TimeoutError) as error:
            log.warning("beacon_unanswered", asker=beacon.asker, cause=str(error) or "no answer in time")
        finally:
            if self._outstanding.get(beacon.asker, (None,))[0] == beacon.id:
                del self._outstanding[beacon.asker]
