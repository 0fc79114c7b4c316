"""Which old server a request belongs to, and calls to the old servers that are the proxy's own."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import aiohttp
from aiohttp import web
from yarl import URL

from adapters.documents.mapping import Mapper
from adapters.endpoint import Answers, EndpointSide
from adapters.side import Operation
from config.model import Config
from proxy.failure import Failure
from proxy.flags.confirm import Confirm
from proxy.forwarding.forward import Forwarder
from proxy.forwarding.tap import Tap
from proxy.requests.claims import Asked, Claim

_CALL_DEADLINE: Final = 10.0


class Endpoints:
    """The table of upstreams: by name, by entity, and by path for what no entity claims."""

    def __init__(
        self,
        config: Config,
        mappers: Mapping[str, Mapper],
        forwarder: Forwarder,
        session: aiohttp.ClientSession,
    ) -> None:
        self._forwarder = forwarder
        self._session = session
        self._urls = urls(config)
        self._names = {
            name: entity.legacy.upstream
            for name, entity in config.entities.items()
            if entity.legacy.via == "endpoint" and entity.legacy.upstream
        }
        deadline = config.limits.read.total_seconds()
        servers = {
            name: {upstream, *(route.upstream for route in config.entities[name].routes if route.upstream)}
            for name, upstream in self._names.items()
        }
        self._sides = {
            (name, server): EndpointSide(
                str(self._urls[server]), session, {name: Answers(mappers[name], _place)}, deadline=deadline
            )
            for name in servers
            for server in servers[name]
        }
        self._prefixes = [(rule.path, self._urls[rule.to]) for rule in config.forward]

    def serve(self, entity: str) -> bool:
        """Whether the entity's legacy side is reached through its old endpoint."""
        return entity in self._names

    def side(self, claim: Claim) -> EndpointSide | None:
        """The old endpoint of a route as a side, where the entity's legacy side is reached that way."""
        return self._sides[claim.entity, self._server(claim)] if self.serve(claim.entity) else None

    def sides(self) -> Mapping[str, tuple[str, EndpointSide]]:
        """By entity, its old server's name, and that server as a side."""
        return {entity: (name, self._sides[entity, name]) for entity, name in self._names.items()}

    async def forward(
        self,
        request: web.BaseRequest,
        asked: Asked,
        *,
        shield: bool = False,
        tap: Tap | None = None,
        confirm: Confirm | None = None,
    ) -> web.StreamResponse:
        """Forward a request of an entity, whose body has been read, to its old server, as `Forwarder.forward` says."""
        upstream = self._urls[self._server(asked.claim)]
        return await self._forwarder.forward(
            request, upstream, body=asked.http.body, shield=shield, tap=tap, confirm=confirm
        )

    async def pass_on(self, request: web.BaseRequest) -> web.StreamResponse:
        """Forward what no entity claims, streamed. Raises Failure 404 where the configuration names no upstream for it."""
        path = request.path
        for prefix, upstream in self._prefixes:
            if path.startswith(prefix):
                return await self._forwarder.forward(request, upstream)
        raise Failure(404, "Nothing is configured for this path", reason="no_upstream")

    def _server(self, claim: Claim) -> str:
        return claim.route.upstream or self._names[claim.entity]

    async def call(self, name: str, method: str, path: str, body: Any = None) -> Any:
        """A handler's own call of an upstream: JSON there and back. Raises Failure 502 or 504."""
        try:
            async with (
                asyncio.timeout(_CALL_DEADLINE),
                self._session.request(method, self._urls[name].join(URL(path)), json=body) as response,
            ):
                if response.status >= 400:
                    raise Failure(502, f"{name} refused", reason=f"upstream_{response.status}")
                return await response.json()
        except TimeoutError:
            raise Failure(504, f"{name} did not answer in time", reason="upstream_timeout", retry_after=1) from None
        except aiohttp.ClientError as error:
            raise Failure(502, f"{name} could not be reached", reason="upstream_unreachable", retry_after=1) from error


def urls(config: Config) -> dict[str, URL]:
    return {name: URL(text) for name, text in config.upstreams.items()}


def _place(operation: Operation) -> str:
    return operation.request.place if operation.request else "$"
