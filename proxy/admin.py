"""The port that is not for traffic: whether this process lives, whether it is ready, and what it has counted."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from adapters.side import SideName, Store
from proxy.metrics import Metrics
from proxy.readiness import Readiness
from proxy.requests.reports import Reports


class Admin:
    """Bound to loopback: it asks nobody who they are."""

    def __init__(
        self, metrics: Metrics, reports: Reports, stores: Mapping[SideName, Store], readiness: Readiness
    ) -> None:
        self._metrics = metrics
        self._reports = reports
        self._stores = stores
        self._readiness = readiness

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/healthz", self._alive)
        app.router.add_get("/readyz", self._ready)
        app.router.add_get("/stores", self._healthy)
        app.router.add_get("/metrics", self._counted)
        app.router.add_get("/mismatches", self._mismatches)
        return app

    async def _alive(self, _: web.Request) -> web.Response:
        return web.json_response({"alive": True})

    async def _ready(self, _: web.Request) -> web.Response:
        """200 where requests are welcome, 503 where they are not, and why."""
        hindrance = self._readiness.hindrance
        return web.json_response({"ready": hindrance is None, "reason": hindrance}, status=503 if hindrance else 200)

    async def _healthy(self, _: web.Request) -> web.Response:
        """200 where both sides answer, 503 where one does not."""
        healthy = await asyncio.gather(*(store.is_healthy() for store in self._stores.values()))
        answers = dict(zip(self._stores, healthy, strict=True))
        return web.json_response(answers, status=200 if all(answers.values()) else 503)

    async def _counted(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _mismatches(self, _: web.Request) -> web.Response:
        """The groups of this replica, the one seen last at the end."""
        groups = [
            {
                "group": seen.group.id,
                "entity": seen.group.entity,
                "operation": seen.group.operation,
                "changes": [f"{kind} {path}" for path, kind in seen.group.shapes],
                "count": seen.count,
                "first": seen.first,
                "last": seen.last,
            }
            for seen in self._reports
        ]
        return web.json_response({"groups": groups, "leftOut": self._reports.left_out})
