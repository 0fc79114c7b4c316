"""The way through: match the route, ask the stage, answer; and every failure as one JSON error and one event."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Mapping
from typing import Final

import structlog
from aiohttp import web

from adapters.side import Conflict, HttpRequest, Invalid, Missing, Orphan, SideError, Unavailable, Unreadable
from config.paths import Router
from proxy.failure import Failure
from proxy.flags.gate import Held
from proxy.flags.view import Flags
from proxy.forwarding.headers import REQUEST_ID
from proxy.forwarding.outbound import may_leave_trailers
from proxy.idle import Idle
from proxy.metrics import Metrics
from proxy.requests.claims import Asked, Claim
from proxy.requests.reads import Reads
from proxy.requests.upstreams import Endpoints
from proxy.requests.wallet import Wallets
from proxy.requests.writes import Writes

log = structlog.get_logger()

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_CLIENT_LEFT: Final = 499
"""Counted, never sent: nobody is there to be told. The number is nginx's."""


class Dispatch:
    """The handler of every request on the traffic port."""

    def __init__(
        self,
        router: Router[Claim],
        flags: Flags,
        endpoints: Endpoints,
        reads: Reads,
        writes: Writes,
        wallets: Wallets | None,
        idle: Idle,
        metrics: Metrics,
        leaving: asyncio.Event,
        *,
        bound: int,
    ) -> None:
        self._router = router
        self._flags = flags
        self._endpoints = endpoints
        self._reads = reads
        self._writes = writes
        self._wallets = wallets
        self._idle = idle
        self._metrics = metrics
        self._leaving = leaving
        self._bound = bound

    async def answer(self, request: web.Request) -> web.StreamResponse:
        request[REQUEST_ID] = request_id = accepted_id(request.headers.get("X-Request-Id"))
        # A HEAD is the GET that its entity's route names, without the body (RFC 9110 9.3.2).
        method = "GET" if request.method == "HEAD" else request.method
        matched = self._router.match(method, request.raw_path.partition("?")[0])
        try:
            if matched is None:
                self._metrics.forwarded.inc()
                response = await self._endpoints.pass_on(request)
            else:
                response = await self._answer(request, *matched, request_id)
        except Failure as error:
            response = error.response(request_id)
        if not response.prepared:
            response.headers["X-Request-Id"] = request_id
            if may_leave_trailers(request) or self._leaving.is_set():
                response.force_close()
        return response

    async def _answer(
        self, request: web.Request, claim: Claim, params: Mapping[str, str], request_id: str
    ) -> web.StreamResponse:
        side = self._flags.meaning(claim.entity).primary
        status = 500
        self._idle.enter()
        try:
            asked = await self._asked(request, claim, params, request_id)
            response = await (self._writes if claim.writes else self._reads).answer(request, asked)
            status = response.status
            return response
        except Failure as error:
            status = error.status
            raise
        except Held:
            status = 503
            raise Failure(503, "The entity is changing sides", reason="held", retry_after=1) from None
        except SideError as error:
            failure = as_failure(error, claim)
            status = failure.status
            if status >= 500:
                log.error(
                    "request_failed", entity=claim.entity, route=claim.route.on, request_id=request_id, cause=str(error)
                )
            raise failure from error
        except asyncio.CancelledError:
            status = _CLIENT_LEFT
            raise
        except Exception:
            log.exception("request_failed", entity=claim.entity, route=claim.route.on, request_id=request_id)
            raise Failure(500, "Something went wrong in the proxy", reason="internal") from None
        finally:
            self._idle.leave()
            self._metrics.requests.labels(claim.entity, claim.route.do, side, str(status)).inc()

    async def _asked(self, request: web.Request, claim: Claim, params: Mapping[str, str], request_id: str) -> Asked:
        wallet = await self._wallet(request, claim) if claim.route.auth == "wallet" else None
        body = await read_body(request, self._bound) if request.can_read_body else None
        headers = tuple((name, value) for name, value in request.headers.items())
        http = HttpRequest(request.method, request.raw_path, headers, body, claim.route.body)
        return Asked(claim, params, request.query, http, request_id, wallet)

    async def _wallet(self, request: web.Request, claim: Claim) -> str | None:
        """Whose wallet asks. Where the old server answers, it is the one that refuses a token."""
        assert self._wallets is not None, "the configuration's check has seen that auth.wallet is there"
        forwarded = self._flags.meaning(claim.entity).primary == "legacy" and self._endpoints.serve(claim.entity)
        try:
            address = self._wallets.address(request)
        except Failure:
            if forwarded:
                return None
            raise
        if forwarded and self._flags.meaning(self._wallets.entity).primary != "legacy":
            # The old server is about to look its caller up, in what is no longer the truth about accounts.
            await self._wallets.account(address, on="legacy")
        return address


def accepted_id(given: str | None) -> str:
    """The client's request id where it is fit for headers and logs, otherwise a new one."""
    return given if given and _REQUEST_ID.fullmatch(given) else secrets.token_hex(16)


async def read_body(request: web.BaseRequest, bound: int) -> bytes:
    """The whole body. Raises Failure 413 past `bound` bytes, 400 where it breaks off."""
    if request.content_length is not None and request.content_length > bound:
        raise _too_large(bound)
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    pieces: list[bytes] = []
    size = 0
    try:
        async for piece in request.content.iter_any():
            size += len(piece)
            if size > bound:
                raise _too_large(bound)
            pieces.append(piece)
    except web.RequestPayloadError as error:
        raise Failure(400, "The request body is malformed or broke off", reason="client_body") from error
    return b"".join(pieces)


def _too_large(bound: int) -> Failure:
    return Failure(413, f"The body is larger than {bound} bytes", reason="body_too_large")


def as_failure(error: SideError, claim: Claim) -> Failure:
    """What a side refused, as the client is told."""
    match error:
        case Invalid():
            return Failure(400, f"{error.field}: {error.reason}", field=error.field, reason=error.reason)
        case Conflict():
            names = [claim.mapper.body_name(field) for field in error.fields]
            return Failure(409, f"{', '.join(names) or 'value'} already exists", field=", ".join(names) or None)
        case Missing():
            return Failure(404, f"{claim.mapper.model.name} not found")
        case Orphan() if claim.route.do == "delete":
            return Failure(409, f"{claim.mapper.model.name} is in use", field=claim.mapper.id, reason="in use")
        case Orphan():
            return Failure(400, f"{error.field} refers to nothing", field=error.field, reason="refers to nothing")
        case Unavailable():
            return Failure(503, "The store is not available", reason="unavailable", retry_after=1)
        case Unreadable():
            return Failure(500, "What is stored cannot be read", reason="unreadable")
        case _:
            return Failure(502, "The side refused", reason="refused")
