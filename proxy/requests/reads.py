"""A read: respond from the primary (or, at a share of the keys, from the other side), then compare beside the traffic."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import structlog
from aiohttp import web

from adapters.side import Flag, SideError, SideName
from proxy.breaker import Breakers, Open
from proxy.failure import Failure
from proxy.flags.stages import Meaning
from proxy.flags.view import Flags
from proxy.forwarding.tap import Tap
from proxy.idle import Aside
from proxy.metrics import Metrics
from proxy.requests.claims import Asked
from proxy.requests.freshness import Freshness
from proxy.requests.perform import Observation, Performer
from proxy.requests.shadow import Shadow, Unobservable, from_tap
from proxy.requests.upstreams import Endpoints

log = structlog.get_logger()

_BUDGET: Final = 0.25
"""Seconds that the secondary has to serve a read. A healthy one takes a few milliseconds; after these the primary is asked,
and a client notices less than a retry of its own would take. It is spent three times in a row, then the breaker opens."""

_OTHER: Final[Mapping[SideName, SideName]] = {"legacy": "prisma", "prisma": "legacy"}


class Reads:
    """Answers reads of entities."""

    def __init__(
        self,
        flags: Flags,
        endpoints: Endpoints,
        performer: Performer,
        freshness: Freshness,
        shadow: Shadow,
        aside: Aside,
        breakers: Breakers,
        metrics: Metrics,
        *,
        bound: int,
    ) -> None:
        self._flags = flags
        self._endpoints = endpoints
        self._performer = performer
        self._freshness = freshness
        self._shadow = shadow
        self._aside = aside
        self._breakers = breakers
        self._metrics = metrics
        self._bound = bound

    async def answer(self, request: web.BaseRequest, asked: Asked) -> web.StreamResponse:
        entity = asked.claim.entity
        flag, meaning = self._flags[entity], self._flags.meaning(entity)
        compared = request.method != "HEAD" and self._is_compared(flag, meaning)
        if self._is_for_secondary(flag, meaning, asked):
            served = await self._from_secondary(meaning, asked)
            if served is not None:
                return served
        if meaning.primary == "legacy" and self._endpoints.serve(entity):
            tap = Tap(self._bound) if compared else None
            response = await self._endpoints.forward(request, asked, tap=tap)
            if tap is not None:
                self._compare(asked, meaning.primary, partial(from_tap, asked, tap))
            return response
        answer, observation = await self._performer.read(meaning.primary, asked)
        if compared:
            self._compare(asked, meaning.primary, lambda: observation)
        return answer

    @staticmethod
    def _is_compared(flag: Flag, meaning: Meaning) -> bool:
        return meaning.compares and (flag.sample >= 100 or random.randrange(100) < flag.sample)

    def _is_for_secondary(self, flag: Flag, meaning: Meaning, asked: Asked) -> bool:
        """The same key is always served by the same side; a key that has not settled yet is served by the primary."""
        if not (meaning.servable and flag.serve and share(asked.claim.entity, asked.identity) < flag.serve):
            return False
        if self._freshness.is_settled(asked.claim.entity):
            return True
        self._metrics.fallbacks.labels(asked.claim.entity).inc()
        return False

    async def _from_secondary(self, meaning: Meaning, asked: Asked) -> web.Response | None:
        """None where the secondary does not answer: that never changes what a client gets."""
        entity = asked.claim.entity
        read = partial(self._performer.read, meaning.secondary, asked)
        try:
            answer, observation = await self._breakers.store(meaning.secondary).ask(read, within=_BUDGET)
        except (SideError, Failure, TimeoutError) as error:
            if not (isinstance(error, Open) or (isinstance(error, Failure) and error.status < 500)):
                cause = str(error) or "no answer in time"
                log.warning("secondary_failed", entity=entity, request_id=asked.request_id, cause=cause)
            self._metrics.fallbacks.labels(entity).inc()
            return None
        if meaning.compares:
            self._compare(asked, meaning.secondary, lambda: observation)
        return answer

    def _compare(self, asked: Asked, side: SideName, seen: Callable[[], Observation | Unobservable]) -> None:
        entity, other = asked.claim.entity, _OTHER[side]
        if not self._breakers.of(other, entity).admits:
            result = "skipped"  # known to be away: the queue is for what can be compared
        elif self._aside.offer(partial(self._shadow.compare, asked, side, seen)):
            return
        else:
            result = "shed"
        self._metrics.comparisons.labels(entity, asked.claim.route.do, result).inc()


def share(entity: str, identity: str) -> int:
    """0 to 99, the same for the same key in every replica and at every start."""
    return zlib.crc32(f"{entity}\0{identity}".encode()) % 100
