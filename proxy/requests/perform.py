"""The proxy performs an operation itself: on a store, or by a handler; and renders what the old endpoint would have sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import orjson
from aiohttp import web

from adapters.answer import enclose, extract
from adapters.documents.mapping import Mapper
from adapters.endpoint import EndpointSide
from adapters.prisma.errors import translated
from adapters.prisma.marking import Transactions
from adapters.side import Document, Missing, Operation, Orphan, Outcome, SideName, Store
from proxy.breaker import Breakers
from proxy.failure import Failure
from proxy.flags.gate import Gate
from proxy.flags.view import Flags
from proxy.requests.admission import Admission
from proxy.requests.bringing import Bringing
from proxy.requests.claims import Asked
from proxy.requests.handlers import Answer, Call, Job
from proxy.requests.upstreams import Endpoints
from proxy.requests.wallet import Wallets

_CREATED: Final = 201
_OBSERVE: Final = 5.0
"""Seconds that one side may take to answer to a comparison, of the ten that a comparison has."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What one side answered to a read: the status, and the document, the documents of a list, or of a handler the JSON
    at the route's body."""

    status: int
    value: Any


NOTHING = Observation(404, None)


@dataclass(frozen=True, slots=True)
class Written:
    """A write that the proxy performed: what to answer, the keys of each entity that it touched, with their marks, and
    what its handler wants done before the client is answered."""

    response: web.Response
    keys: Mapping[str, tuple[str, ...]]
    marks: Mapping[str, tuple[str, ...]]
    afterwards: Sequence[Job] = ()


class Performer:
    """Answers from the sides that the proxy reaches itself: stores and handlers."""

    def __init__(
        self,
        flags: Flags,
        gates: Mapping[str, Gate],
        stores: Mapping[SideName, Store],
        endpoints: Endpoints,
        mappers: Mapping[str, Mapper],
        transactions: Transactions,
        wallets: Wallets | None,
        breakers: Breakers,
        bringing: Bringing,
    ) -> None:
        self._flags = flags
        self._gates = gates
        self._stores = stores
        self._endpoints = endpoints
        self._mappers = mappers
        self._transactions = transactions
        self._wallets = wallets
        self._breakers = breakers
        self._bringing = bringing

    async def read(self, side: SideName, asked: Asked) -> tuple[web.Response, Observation]:
        """Answer a read from this side, for the client."""
        account = await self._account(side, asked)
        if asked.claim.handler is not None:
            answer = await self._handled(asked, account)
            return _json(answer.status, answer.body), _seen(asked, answer)
        outcome = await self._stores[side].perform(asked.operation(account))
        return self._render(asked, outcome), self._observed(asked, outcome)

    async def observe(self, side: SideName, asked: Asked) -> Observation:
        """What this side would answer to a read, for a comparison: the caller's account is looked up, never created.
        Raises SideError (Open: it was not asked), Failure and TimeoutError."""
        breaker = self._breakers.of(side, asked.claim.entity)
        return await breaker.ask(partial(self._observe, side, asked), within=_OBSERVE)

    async def _observe(self, side: SideName, asked: Asked) -> Observation:
        endpoint = self._endpoints.side(asked.claim) if side == "legacy" else None
        if endpoint is not None:
            return await self._observe_endpoint(endpoint, asked)
        account = None
        if self._wallets and asked.wallet is not None:
            account = await self._wallets.find(side, asked.wallet)
            if account is None:
                return NOTHING
        if asked.claim.handler is not None:
            return _seen(asked, await self._handled(asked, account))
        return self._observed(asked, await self._stores[side].perform(asked.operation(account)))

    async def _observe_endpoint(self, endpoint: EndpointSide, asked: Asked) -> Observation:
        """The client's own request once more; a handler's route is compared as the JSON that it answers."""
        # The old server makes an account for a wallet that it does not know: it has to know this one first.
        if self._wallets and asked.wallet is not None and not await self._wallets.is_known(asked.wallet, "legacy"):
            return NOTHING
        if asked.claim.handler is not None:
            try:
                return Observation(200, await endpoint.answer(asked.http))
            except Missing:
                return NOTHING
        operation = Operation(asked.claim.entity, asked.claim.route.do, request=asked.http)
        return self._observed(asked, await endpoint.perform(operation))

    async def write(self, side: SideName, asked: Asked, *, mark: bool) -> Written:
        """Perform a write on this side and render its answer. Raises SideError and Failure."""
        account = await self._account(side, asked)
        if asked.claim.handler is not None:
            return await self._handle(asked, account)
        entity = asked.claim.entity
        outcome = await self._perform(side, asked.operation(account), mark=mark)
        return Written(self._render(asked, outcome), {entity: outcome.keys}, {entity: outcome.marks})

    async def _perform(self, side: SideName, operation: Operation, *, mark: bool) -> Outcome:
        try:
            return await self._stores[side].perform(operation, mark=mark)
        except Orphan as orphan:
            if side != "prisma" or not await self._bringing.parent_for(operation, orphan):
                raise
        return await self._stores[side].perform(operation, mark=mark)

    async def _handled(self, asked: Asked, account: Document | None) -> Answer:
        assert asked.claim.handler is not None
        with translated():
            answer: Answer = await asked.claim.handler(self._call(asked, account, self._transactions.client))
        return answer

    async def _handle(self, asked: Asked, account: Document | None) -> Written:
        assert asked.claim.handler is not None
        admission = Admission(self._flags, self._gates, asked.claim.entity)
        with admission.lasting():
            async with self._transactions.begin(admission.admit) as transaction:
                call = self._call(asked, account, transaction.client)
                answer = await asked.claim.handler(call)
        return Written(_json(answer.status, answer.body), transaction.keys, transaction.marks, call.jobs)

    def _observed(self, asked: Asked, outcome: Outcome) -> Observation:
        documents = outcome.documents
        if self._endpoints.serve(asked.claim.entity):
            # An old endpoint's answer is only JSON: documents are compared as such an answer would have them.
            documents = tuple(asked.claim.mapper.answered(document) for document in documents)
        return observation_of(asked, documents)

    async def _account(self, side: SideName, asked: Asked) -> Document | None:
        if asked.claim.route.auth != "wallet":
            return None
        if self._wallets is None or asked.wallet is None:
            raise Failure(401, "Wallet address required")
        return await self._wallets.account(asked.wallet, on=side)

    def _call(self, asked: Asked, account: Document | None, db: Any) -> Call:
        return Call(
            db=db,
            params=asked.params,
            query=asked.query,
            body=asked.json() if asked.claim.writes else {},
            account=account,
            now=datetime.now(UTC),
            request_id=asked.request_id,
            render=lambda entity, record: self._mappers[entity].record_body(record),
            upstream=self._endpoints.call,
        )

    def _render(self, asked: Asked, outcome: Outcome) -> web.Response:
        route, mapper = asked.claim.route, asked.claim.mapper
        bodies = [mapper.to_body(document) for document in outcome.documents]
        if route.do == "list":
            return _json(route.status or 200, enclose(bodies, route.body, route.envelope))
        if not bodies:
            raise Failure(404, f"{mapper.model.name} not found")
        status = route.status or (_CREATED if route.do == "create" else 200)
        return _json(status, enclose(bodies[0], route.body, route.envelope))


def observation_of(asked: Asked, documents: tuple[Document, ...]) -> Observation:
    if asked.claim.route.do == "list":
        return Observation(200, documents)
    return Observation(200, documents[0]) if documents else NOTHING


def _json(status: int, body: Any) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(body), content_type="application/json", charset="utf-8")


def _seen(asked: Asked, answer: Answer) -> Observation:
    return Observation(answer.status, extract(answer.body, asked.claim.route.body))
