"""How the stores are while a long run works on them, and the pace that follows from it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from adapters.engine import Engine, EngineError
from adapters.mongo.store import MongoStore
from adapters.side import SideError, SideName, Store
from proxy.flags.both import within
from proxy.flags.lease import now
from proxy.migration.run.pace import Pace

log = structlog.get_logger()

_EVERY: Final = 1.0
_LONGEST: Final = 5.0
"""Seconds for one look; what has not answered by then counts as that slow."""
_SLOW: Final = 0.5
"""Seconds that a ping of a store may take."""
_LATE: Final = 2.0
"""Seconds by which the replication of what clients write may lag behind."""
_QUEUE: Final = 20
"""Calls that may wait for a connection to PostgreSQL."""


@dataclass(frozen=True, slots=True)
class Strain:
    """What one look found: seconds, and calls that wait for a connection of the pool."""

    ping: Mapping[SideName, float]
    lag: float = 0.0
    waiting: int = 0

    @property
    def reasons(self) -> list[str]:
        """What is too much, for people to read; none where all is well."""
        slow = [f"{side} takes {seconds:.1f} s to answer" for side, seconds in self.ping.items() if seconds > _SLOW]
        late = [f"replication is {self.lag:.1f} s behind"] if self.lag > _LATE else []
        queue = [f"{self.waiting} calls wait for a connection to PostgreSQL"] if self.waiting > _QUEUE else []
        return slow + late + queue


class Health:
    """Looks every second, and slows a pace down where the stores have too much to do.

    The lag is measured by asking the one who follows the change stream how long it is until everything that was written
    before now has settled; on a standalone server there is nobody to ask.
    """

    def __init__(self, stores: Mapping[SideName, Store], legacy: MongoStore, engine: Engine) -> None:
        self._stores = stores
        self._legacy = legacy
        self._engine = engine
        self._asker = f"pace-{secrets.token_hex(6)}"

    async def look(self, entity: str) -> Strain:
        """Never raises: a store that does not answer takes as long as one look may."""
        pings, lag, waiting = await asyncio.gather(
            asyncio.gather(*(self._ping(store) for store in self._stores.values())),
            self._lag(entity),
            self._waiting(),
        )
        return Strain(dict(zip(self._stores, pings, strict=True)), lag, waiting)

    async def watch(self, entity: str, pace: Pace) -> None:
        """Look, and change the pace by what is seen, until cancelled."""
        strained = False
        while True:
            reasons = (await self.look(entity)).reasons
            if reasons:
                pace.strained()
            else:
                pace.eased()
            if bool(reasons) != strained:
                strained = bool(reasons)
                log.warning("slowed_down" if strained else "sped_up", entity=entity, reasons=reasons)
            await asyncio.sleep(_EVERY)

    async def _ping(self, store: Store) -> float:
        begun = now()
        healthy = await store.is_healthy()
        return now() - begun if healthy else _LONGEST

    async def _lag(self, entity: str) -> float:
        if not self._legacy.is_replica_set:
            return 0.0
        begun = now()
        try:
            await within(_LONGEST, self._legacy.beacons.ask(self._asker, [entity]))
        except SideError:
            return _LONGEST
        return now() - begun

    async def _waiting(self) -> int:
        try:
            return int((await self._engine.metrics())["pool"]["waiting"])
        except EngineError:
            return 0
