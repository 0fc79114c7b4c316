"""A write: mark, primary write, respond, settle. The gate counts it and, while a flip is fenced, holds it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from aiohttp import web

from proxy.flags.confirm import Confirmations
from proxy.flags.gate import Gate, Held
from proxy.flags.view import Flags
from proxy.metrics import Metrics
from proxy.replication.follow import Follower
from proxy.replication.replicator import Replicator
from proxy.replication.steps import Reached, unnoticed
from proxy.requests.claims import Asked
from proxy.requests.freshness import Freshness
from proxy.requests.noted import Noted
from proxy.requests.perform import Performer
from proxy.requests.upstreams import Endpoints


class Writes:
    """Answers writes of entities, on whichever side is the primary at that moment."""

    def __init__(
        self,
        flags: Flags,
        gates: Mapping[str, Gate],
        endpoints: Endpoints,
        performer: Performer,
        replicator: Replicator,
        follower: Follower,
        freshness: Freshness,
        noted: Noted,
        confirmations: Confirmations,
        metrics: Metrics,
        *,
        reached: Reached = unnoticed,
    ) -> None:
        self._flags = flags
        self._gates = gates
        self._endpoints = endpoints
        self._performer = performer
        self._replicator = replicator
        self._follower = follower
        self._freshness = freshness
        self._noted = noted
        self._confirmations = confirmations
        self._metrics = metrics
        self._reached = reached
        self._running: set[asyncio.Task[web.StreamResponse]] = set()

    async def answer(self, request: web.BaseRequest, asked: Asked) -> web.StreamResponse:
        gate = self._gates[asked.claim.entity]
        await self._enter(asked.claim.entity, gate)
        if not self._flags.meaning(asked.claim.entity).settles:
            return await self._write(request, asked, gate)
        # From here the client may leave, but what its write has begun is finished: it runs in a task of its own.
        task = asyncio.create_task(self._write(request, asked, gate))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def _enter(self, entity: str, gate: Gate) -> None:
        try:
            await gate.enter()
        except Held:
            self._metrics.refused_writes.labels(entity, "held").inc()
            raise

    async def finished(self) -> None:
        """Return once every write that had begun has ended."""
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _write(self, request: web.BaseRequest, asked: Asked, gate: Gate) -> web.StreamResponse:
        entity = asked.claim.entity
        try:
            # Rule: a write is begun, and acknowledged, only under one unbroken lease. Nothing is waited for between the lease
            # and the flag that it vouches for.
            confirm = self._confirmations.begin(entity)
            meaning = self._flags.meaning(entity)
            if meaning.primary == "legacy" and self._endpoints.serve(entity):
                if self._follower.needs_mark(meaning):
                    return await self._noted.forward(
                        asked,
                        lambda tap: self._endpoints.forward(request, asked, shield=True, tap=tap, confirm=confirm),
                    )
                # The change stream is the record of what the old server did: a forwarded write needs no mark.
                try:
                    response = await self._endpoints.forward(request, asked, shield=meaning.settles, confirm=confirm)
                    await self._reached("written")
                finally:
                    self._freshness.forwarded(entity)
                return response
            written = await self._performer.write(meaning.primary, asked, mark=self._follower.needs_mark(meaning))
            await self._reached("written")
            for touched, keys in written.keys.items():
                marks = [(meaning.primary, mark) for mark in written.marks.get(touched, ())]
                if marks or not self._follower.settles(meaning):
                    self._replicator.changed(touched, keys, marks)
                else:
                    self._freshness.forwarded(touched)
            confirm()
            for job in written.afterwards:
                await job()
            return written.response
        finally:
            gate.leave()
