"""The composition root: builds every part, wires them, and starts and stops each in one place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Final

import aiohttp
import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from adapters.documents.mapping import Mapper
from adapters.engine import Engine
from adapters.mongo.collection import collections_of
from adapters.mongo.store import MongoStore
from adapters.prisma.marking import Transactions
from adapters.prisma.store import PrismaStore, Table
from adapters.side import SideName, Store
from comparators.rules import Rules
from config.model import Config
from config.schema import Schema
from config.settings import Settings
from proxy.admin import Admin
from proxy.breaker import Breakers
from proxy.connect import Connections
from proxy.flags.both import GRACE
from proxy.flags.confirm import Confirmations
from proxy.flags.gate import Gate
from proxy.flags.lease import Lease
from proxy.flags.presence import Presence
from proxy.flags.tally import Tally
from proxy.flags.view import Flags
from proxy.forwarding.forward import Forwarder, expect_later
from proxy.forwarding.upstream import Timeouts
from proxy.idle import Aside, Idle
from proxy.metrics import Metrics
from proxy.readiness import Readiness
from proxy.replication.follow import Follower
from proxy.replication.quarantine import Quarantines
from proxy.replication.replicator import Replicator
from proxy.replication.settle import Parents, Settler
from proxy.replication.steps import Reached, unnoticed
from proxy.replication.sweep import Sweep, parents_first
from proxy.requests.bringing import Bringing
from proxy.requests.claims import compile_claims
from proxy.requests.dispatch import Dispatch
from proxy.requests.freshness import Freshness
from proxy.requests.noted import Noted
from proxy.requests.perform import Performer
from proxy.requests.reads import Reads
from proxy.requests.reports import Reports
from proxy.requests.shadow import Shadow
from proxy.requests.upstreams import Endpoints, urls
from proxy.requests.wallet import Wallets
from proxy.requests.writes import Writes

log = structlog.get_logger()

_OWN_CALLS: Final = 100
"""Connections to one old server for what the proxy asks by itself: comparisons, and the calls of handlers."""

_AWAY: Final = 0.2
"""Seconds that a start waits for the flags of a store that has been waited for already."""

_LAST_SETTLES: Final = 5.0
"""Seconds that a stopping proxy gives the settles of what it wrote; the marks of the rest stay for a sweep."""


@dataclass(frozen=True, slots=True)
class Stores:
    """Both sides as this process reaches them: for the proxy, and for the commands that read and change flags."""

    engine: Engine
    legacy: MongoStore
    prisma: PrismaStore
    mappers: Mapping[str, Mapper]

    def by_side(self) -> dict[SideName, Store]:
        return {"legacy": self.legacy, "prisma": self.prisma}


def build_stores(config: Config, settings: Settings, schema: Schema, *, replica: str | None = None) -> Stores:
    """`replica` names the proxy that they are for; a command has none."""
    models = {name: schema.models[entity.model] for name, entity in config.entities.items()}
    mappers = {name: Mapper(entity, models[name], schema) for name, entity in config.entities.items()}
    limits = config.limits
    engine = Engine(
        settings.database_url,
        pool=settings.pool,
        connect=limits.connect.total_seconds(),
        timeout=limits.write.total_seconds(),
        schema=schema,
        owner=settings.replica,
    )
    legacy = MongoStore(
        settings.mongo_url,
        collections_of(config, schema, mappers),
        replica=replica,
        connect=limits.connect.total_seconds(),
        read=limits.read.total_seconds(),
        write=limits.write.total_seconds(),
    )
    tables = {name: Table(models[name], mapper) for name, mapper in mappers.items()}
    return Stores(engine, legacy, PrismaStore(engine, tables), mappers)


def parents_of(config: Config, schema: Schema) -> Parents:
    """For each entity, the fields by which it refers to others."""
    entities = {entity.model: name for name, entity in config.entities.items()}
    return {
        name: [
            (relation.fields[0], entities[relation.model])
            for relation in schema.models[entity.model].parents()
            if relation.model in entities and len(relation.fields) == 1
        ]
        for name, entity in config.entities.items()
    }


class Proxy:
    """Every part of one running proxy, wired; `application()` is what a server runs."""

    def __init__(self, config: Config, settings: Settings, schema: Schema, *, reached: Reached = unnoticed) -> None:
        """`reached` is told of each step of the protocol: for tests, which stop or kill the process there."""
        limits = config.limits
        self.settings = settings
        self.metrics = Metrics()
        self.reports = Reports()
        self.stores = build_stores(config, settings, schema, replica=settings.replica)
        by_side, mappers = self.stores.by_side(), self.stores.mappers
        idle = Idle()
        self.readiness = Readiness(lambda: self.presence.holds())
        hold = limits.hold.total_seconds()
        self.flags = Flags(config.entities, by_side, hold=hold, who=settings.replica)
        lease = Lease(lambda: self.flags.looked)
        self.confirmations = Confirmations(lease, self.metrics)
        # Twice the time: a fence that was abandoned may be followed by another one.
        self.gates = {entity: Gate(2 * hold, self.metrics.held.labels(entity)) for entity in config.entities}
        parents = parents_of(config, schema)
        self.settler = Settler(by_side, self.flags, parents, reached=reached)
        quarantines = Quarantines(by_side)
        self.replicator = Replicator(
            self.settler,
            by_side,
            quarantines,
            self.flags,
            config.entities,
            idle,
            self.metrics,
            bound=limits.queue,
            reached=reached,
        )
        self.follower = Follower(
            self.stores.legacy,
            by_side,
            parents_first(parents),
            self.flags,
            self.replicator,
            self.metrics,
            replica=settings.replica,
            reached=reached,
        )
        freshness = Freshness(self.flags, self.gates, by_side, self.replicator, self.follower, quarantines)
        self.forwarder = Forwarder(
            urls(config),
            timeouts=Timeouts(
                connect=limits.connect.total_seconds(),
                first_byte=limits.first_byte.total_seconds(),
                idle=limits.idle.total_seconds(),
            ),
            leaving=self.readiness.leaving,
        )
        self.session = aiohttp.ClientSession(
            # Bounded for each old server: one that hangs has no place that another one needs.
            connector=aiohttp.TCPConnector(limit=0, limit_per_host=_OWN_CALLS),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=True,
        )
        endpoints = Endpoints(config, mappers, self.forwarder, self.session)
        self.breakers = Breakers(by_side, endpoints.sides(), self.metrics)
        self.connections = Connections(by_side)
        bringing = Bringing(self.flags, by_side, parents, self.replicator)
        wallets = self._wallets(config, bringing)
        transactions = Transactions(
            self.stores.engine, {entity.model: name for name, entity in config.entities.items()}
        )
        performer = Performer(
            self.flags,
            self.gates,
            by_side,
            endpoints,
            mappers,
            transactions,
            wallets,
            self.breakers,
            bringing,
        )
        shadow = Shadow(
            self.flags,
            performer,
            freshness,
            {name: Rules.of(entity.compare) for name, entity in config.entities.items()},
            self.reports,
            self.metrics,
        )
        self.comparing = Aside("compare", idle, self.metrics, bound=limits.queue)
        reads = Reads(
            self.flags,
            endpoints,
            performer,
            freshness,
            shadow,
            self.comparing,
            self.breakers,
            self.metrics,
            bound=limits.body,
        )
        noted = Noted(
            self.stores.legacy,
            self.replicator,
            freshness,
            bound=limits.body,
            several=[name for name, entity in config.entities.items() if entity.also],
            reached=reached,
        )
        self.writes = Writes(
            self.flags,
            self.gates,
            endpoints,
            performer,
            self.replicator,
            self.follower,
            freshness,
            noted,
            self.confirmations,
            self.metrics,
            reached=reached,
        )
        self.sweeps = [
            Sweep(
                side,
                settings.replica,
                by_side,
                self.flags,
                parents,
                self.settler,
                self.replicator,
                quarantines,
                self.metrics,
                write_deadline=limits.write,
            )
            for side in by_side
        ]
        self.presence = Presence(
            settings.replica, self.flags, self.gates, by_side, lease, Tally(self.metrics.comparisons)
        )
        self.dispatch = Dispatch(
            compile_claims(config, mappers),
            self.flags,
            endpoints,
            reads,
            self.writes,
            wallets,
            idle,
            self.metrics,
            self.readiness.leaving,
            bound=limits.body,
        )

    def _wallets(self, config: Config, bringing: Bringing) -> Wallets | None:
        rule = config.auth.wallet
        if rule is None:
            return None
        return Wallets(
            rule,
            self.stores.mappers[rule.entity],
            self.stores.by_side(),
            self.flags,
            self.gates[rule.entity],
            self.replicator,
            self.follower,
            self.confirmations,
            bringing,
        )

    def application(self) -> web.Application:
        """The aiohttp application. What it starts first it stops last."""
        app = web.Application(middlewares=[self._any_target])
        app.router.add_route("*", "/{path:.*}", self.dispatch.answer, expect_handler=expect_later)
        app.on_shutdown.append(self.forwarder.close_tunnels)
        app.cleanup_ctx.extend(
            [
                self._with_stores,
                self._with_forwarding,
                self._with_flags,
                self._with_settling,
                self._with_following,
                self._with_writes,
            ]
        )
        return app

    @web.middleware
    async def _any_target(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """`OPTIONS *` and a target in absolute form (RFC 9112 3.2) are no paths, and so no route matches them."""
        return await (handler if request.raw_path.startswith("/") else self.dispatch.answer)(request)

    def admin(self) -> web.Application:
        return Admin(self.metrics, self.reports, self.stores.by_side(), self.readiness).application()

    async def _with_stores(self, _: web.Application) -> AsyncIterator[None]:
        await self.connections.start()
        yield
        await self.breakers.stop()
        await self.connections.stop()

    async def _with_forwarding(self, _: web.Application) -> AsyncIterator[None]:
        yield
        await self.forwarder.close()
        await self.session.close()

    async def _with_flags(self, _: web.Application) -> AsyncIterator[None]:
        """In the registry from before the first write until after the last settle. A store that is away does not keep the
        proxy from starting, nor, until a probe finds it, any read waiting."""
        await self.flags.refresh(grace=_AWAY if self.connections.away else GRACE)
        self.flags.start()
        await self.presence.start()
        for side in self.connections.away:
            log.error("store_away", side=side)
            self.breakers.store(side).trip("away at the start")
        yield
        await self.presence.stop()
        await self.flags.stop()

    async def _with_settling(self, _: web.Application) -> AsyncIterator[None]:
        self.replicator.start()
        self.comparing.start()
        for sweep in self.sweeps:
            sweep.start()
        yield
        await asyncio.gather(*(sweep.stop() for sweep in self.sweeps))
        await self.comparing.stop()
        await self._settle_the_last()
        await self.replicator.stop()

    async def _with_following(self, _: web.Application) -> AsyncIterator[None]:
        away = "legacy" in self.connections.away
        await (self.follower.start(patience=0) if away else self.follower.start())
        yield
        await self.follower.stop()

    async def _with_writes(self, _: web.Application) -> AsyncIterator[None]:
        yield
        await self.writes.finished()

    async def _settle_the_last(self) -> None:
        try:
            async with asyncio.timeout(_LAST_SETTLES):
                await self.replicator.drained()
        except TimeoutError:
            log.warning("stopped_unsettled", keys=sum(self.replicator.backlog(entity) for entity in self.gates))
