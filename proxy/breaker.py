"""A circuit breaker for each way to a side: after a few failures in a row nobody asks it any more, until a probe succeeds.

The words are Nygard's: closed, open, half-open. The probe is the breaker's own, so no client ever waits for one.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from enum import IntEnum
from typing import Final, TypeVar

import structlog

from adapters.side import Side, SideError, SideName, Unavailable
from proxy.metrics import Metrics
from proxy.tasks import Tasks

log = structlog.get_logger()

T = TypeVar("T")

FAILURES: Final = 3
"""Time-outs and failures in a row that open it: one may be bad luck."""
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 30.0
_PROBE_DEADLINE: Final = 5.0


class State(IntEnum):
    """As the metric shows it."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class Open(SideError):
    """The side is known to be away: it was not asked."""


class Breaker:
    """`probe` asks the side whether it answers. It is tried after a pause with jitter that doubles with each failure, and
    goes on doubling until a real call has succeeded: a side that answers probes and nothing else is not asked often."""

    def __init__(self, name: str, probe: Callable[[], Awaitable[bool]], metrics: Metrics) -> None:
        self.name = name
        self._probe = probe
        self._gauge = metrics.breaker.labels(name)
        self._gauge.set(State.CLOSED)
        self._state = State.CLOSED
        self._failures = 0
        self._probes = 0
        self._openings = 0
        self._tasks = Tasks()

    @property
    def state(self) -> State:
        return self._state

    @property
    def admits(self) -> bool:
        """Whether the side may be asked now."""
        return self._state is State.CLOSED

    async def ask(self, call: Callable[[], Awaitable[T]], *, within: float) -> T:
        """What the call returns within so many seconds. Raises what it raises, TimeoutError, and Open where it is not made.

        A refusal is an answer. What is no SideError says nothing about the side, and neither does a call that began
        before the breaker last opened."""
        if not self.admits:
            raise Open(f"{self.name} is away")
        before = self._openings
        try:
            async with asyncio.timeout(within):
                answer = await call()
        except (Unavailable, TimeoutError) as error:
            if before == self._openings:
                self._failed(str(error) or "no answer in time")
            raise
        except SideError:
            if before == self._openings:
                self._succeeded()
            raise
        if before == self._openings:
            self._succeeded()
        return answer

    def trip(self, cause: str) -> None:
        """Open it: the side is known to be away."""
        if self._state is State.CLOSED:
            self._openings += 1
            self._become(State.OPEN, cause)
            self._tasks.start(f"breaker-{self.name}", self._until_closed())

    async def stop(self) -> None:
        await self._tasks.stop()

    def _failed(self, cause: str) -> None:
        self._failures += 1
        if self._failures >= FAILURES:
            self.trip(cause)

    def _succeeded(self) -> None:
        if self._state is State.CLOSED:
            self._failures = self._probes = 0

    async def _until_closed(self) -> None:
        while True:
            pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(self._probes, 10))
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            self._probes += 1
            self._become(State.HALF_OPEN)
            if await self._answers():
                # One more failure opens it again; the first success makes up for all.
                self._failures = FAILURES - 1
                self._become(State.CLOSED)
                return
            self._become(State.OPEN)

    async def _answers(self) -> bool:
        try:
            async with asyncio.timeout(_PROBE_DEADLINE):
                return await self._probe()
        except (SideError, TimeoutError):
            return False

    def _become(self, state: State, cause: str | None = None) -> None:
        self._state = state
        self._gauge.set(state)
        # A side that stays away is said once; its probes are there to be seen by whoever wants to.
        say = log.debug if state is State.HALF_OPEN or cause is None else log.warning
        if state is State.CLOSED:
            say = log.info
        say("breaker", side=self.name, state=state.name.lower(), cause=cause, probes=self._probes)


class Breakers:
    """One for each store, and one for each old server: another one's trouble is not its own."""

    def __init__(
        self, stores: Mapping[SideName, Side], endpoints: Mapping[str, tuple[str, Side]], metrics: Metrics
    ) -> None:
        """`endpoints`: by entity, where its legacy side is reached that way, the old server's name, and the side."""
        self._stores = {side: Breaker(side, store.is_healthy, metrics) for side, store in stores.items()}
        servers = {name: Breaker(name, side.is_healthy, metrics) for name, side in endpoints.values()}
        self._endpoints = {entity: servers[name] for entity, (name, _) in endpoints.items()}

    def store(self, side: SideName) -> Breaker:
        return self._stores[side]

    def of(self, side: SideName, entity: str) -> Breaker:
        """That of the way by which a comparison reaches this side of the entity."""
        if side == "legacy" and entity in self._endpoints:
            return self._endpoints[entity]
        return self._stores[side]

    async def stop(self) -> None:
        for breaker in (*self._stores.values(), *self._endpoints.values()):
            await breaker.stop()
