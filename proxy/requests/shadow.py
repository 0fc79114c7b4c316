"""Shadow reads: what the other side would have answered, compared with what was answered.

The words are those of GitHub's Scientist: an experiment makes an observation of each side; a difference counts as a
mismatch only when it is still there, and still the same, once what it may have raced with has settled.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import orjson
import structlog

from adapters.answer import extract
from adapters.side import Invalid, SideError, SideName
from comparators.compare import Difference, compare
from comparators.group import Group, group
from comparators.rules import Rules
from proxy.breaker import Open
from proxy.failure import Failure
from proxy.flags.view import Flags
from proxy.forwarding.tap import Tap, Undecodable
from proxy.metrics import Metrics
from proxy.requests.claims import Asked
from proxy.requests.freshness import Freshness
from proxy.requests.perform import NOTHING, Observation, Performer, observation_of
from proxy.requests.reports import Reports

log = structlog.get_logger()

ATTEMPTS: Final = 4
"""Re-reads before a difference that keeps racing with writes is given up as lag."""
_PAUSE: Final = 0.05
_DEADLINE: Final = 10.0


@dataclass(frozen=True, slots=True)
class Unobservable:
    """An answer that no comparison can use, and why."""

    reason: str


class Shadow:
    """Runs experiments, one at a time for each call, off every client's path."""

    def __init__(
        self,
        flags: Flags,
        performer: Performer,
        freshness: Freshness,
        rules: Mapping[str, Rules],
        reports: Reports,
        metrics: Metrics,
    ) -> None:
        self._flags = flags
        self._performer = performer
        self._freshness = freshness
        self._rules = rules
        self._reports = reports
        self._metrics = metrics

    async def compare(self, asked: Asked, side: SideName, seen: Callable[[], Observation | Unobservable]) -> None:
        """Compare what `side` answered with what the other one would have; count, and report what remains."""
        try:
            async with asyncio.timeout(_DEADLINE):
                result = await self._experiment(asked, side, seen())
        except Open:
            result = "skipped"
        except (SideError, Failure, TimeoutError) as error:
            result = "failed"
            log.warning(
                "comparison_failed",
                entity=asked.claim.entity,
                request_id=asked.request_id,
                cause=str(error) or "timeout",
            )
        self._metrics.comparisons.labels(asked.claim.entity, asked.claim.route.do, result).inc()

    async def _experiment(self, asked: Asked, side: SideName, control: Observation | Unobservable) -> str:
        if isinstance(control, Unobservable):
            return "skipped"
        epoch = self._flags[asked.claim.entity].epoch
        if not self._flags.meaning(asked.claim.entity).compares:
            return "skipped"  # it waited here while the entity moved on
        other: SideName = "prisma" if side == "legacy" else "legacy"
        candidate = await self._performer.observe(other, asked)
        legacy, prisma = (control, candidate) if side == "legacy" else (candidate, control)
        if self._difference(asked, legacy, prisma) is None:
            return "equal"
        remaining = await self._confirmed(asked)
        if self._flags[asked.claim.entity].epoch != epoch:
            return "skipped"
        if remaining is None:
            return "lag"
        self._report(asked, remaining)
        return "mismatch"

    async def _confirmed(self, asked: Asked) -> Difference | None:
        """Re-read both sides once what is under way has settled. A difference is real when two re-reads in a row, which
        no write raced with, see the same one."""
        # A handler may read any of them.
        entities = tuple(self._rules) if asked.claim.handler else (asked.claim.entity,)
        before: Difference | None = None
        for attempt in range(ATTEMPTS):
            since = await self._freshness.settle(entities)
            legacy, prisma = await asyncio.gather(
                self._performer.observe("legacy", asked), self._performer.observe("prisma", asked)
            )
            difference = self._difference(asked, legacy, prisma)
            if difference is None:
                return None
            calm = await self._freshness.is_unchanged(entities, since)
            if calm and before == difference:
                return difference
            before = difference if calm else None
            await asyncio.sleep(_PAUSE * 2**attempt)
        return None

    def _difference(self, asked: Asked, legacy: Observation, prisma: Observation) -> Difference | None:
        return compare(legacy.value, prisma.value, self._rules[asked.claim.entity])

    def _report(self, asked: Asked, difference: Difference) -> None:
        claim = asked.claim
        belongs: Group = group(claim.entity, claim.route.do, difference)
        self._reports.add(belongs, at=time.time())
        # Paths and kinds only: the values are the users' own.
        log.warning(
            "mismatch",
            entity=claim.entity,
            operation=claim.route.do,
            route=claim.route.on,
            key=asked.identity,
            group=belongs.id,
            changes=[f"{change.kind} {change.path}" for change in difference.changes[:10]],
            request_id=asked.request_id,
        )


def from_tap(asked: Asked, tap: Tap) -> Observation | Unobservable:
    """What an old endpoint answered, as it streamed past."""
    try:
        return observed(asked, tap.status, tap.decoded())
    except Undecodable as error:
        return Unobservable(str(error))


def observed(asked: Asked, status: int, body: bytes) -> Observation | Unobservable:
    """An old endpoint's answer as an observation: documents, or for a handler's route the JSON that it stands for."""
    if status == 404:
        return NOTHING
    if not 200 <= status < 300:
        return Unobservable(f"status {status}")
    route, mapper = asked.claim.route, asked.claim.mapper
    try:
        value = extract(orjson.loads(body), route.body)
        if asked.claim.handler is not None:
            return Observation(status, value)
        documents = value if route.do == "list" else [value]
        return observation_of(asked, tuple(mapper.document_from_answer(document) for document in documents))
    except (orjson.JSONDecodeError, Invalid, LookupError, TypeError) as error:
        return Unobservable(str(error))
