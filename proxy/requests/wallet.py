"""The wallet of a caller: a verified token names it, and its account is found or created, on both sides."""

from __future__ import annotations

from typing import Any

import jwt
import structlog
from aiohttp import web

from adapters.documents.mapping import Mapper
from adapters.side import Conflict, Document, Operation, SideName, Store
from config.model import Wallet
from proxy.failure import Failure
from proxy.flags.confirm import Confirmations
from proxy.flags.gate import Gate
from proxy.flags.view import Flags
from proxy.replication.follow import Follower
from proxy.replication.replicator import Replicator
from proxy.requests.bringing import Bringing

log = structlog.get_logger()


class Wallets:
    """Built where the configuration names a wallet entity."""

    def __init__(
        self,
        rule: Wallet,
        mapper: Mapper,
        stores: dict[SideName, Store],
        flags: Flags,
        gate: Gate,
        replicator: Replicator,
        follower: Follower,
        confirmations: Confirmations,
        bringing: Bringing,
    ) -> None:
        self._rule = rule
        self._mapper = mapper
        self._stores = stores
        self._flags = flags
        self._gate = gate
        self._replicator = replicator
        self._follower = follower
        self._confirmations = confirmations
        self._bringing = bringing

    @property
    def entity(self) -> str:
        return self._rule.entity

    def address(self, request: web.BaseRequest) -> str:
        """The wallet address of the request's bearer token. Raises Failure 401 for a token that is absent or not valid."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise _unauthorised()
        try:
            claims: Any = jwt.decode(
                token.strip(),
                self._rule.secret,
                algorithms=self._rule.algorithms,
                audience=self._rule.audience,
                issuer=self._rule.issuer,
            )
        except jwt.InvalidTokenError:
            raise _unauthorised() from None
        for name in self._rule.claim.split("."):
            claims = claims.get(name) if isinstance(claims, dict) else None
        if not isinstance(claims, str) or not claims.strip():
            raise _unauthorised()
        return claims

    async def account(self, address: str, on: SideName) -> Document:
        """The account of this wallet, found or created on its primary, and there on the side `on` too, so that what is
        about to happen there can refer to it. Raises Unavailable where that cannot be had."""
        primary = self._flags.meaning(self.entity).primary
        account = await self.find(primary, address) or await self._create(address)
        await self._bring(account, address, on)
        return account

    async def is_known(self, address: str, on: SideName) -> bool:
        """Whether this wallet has an account, and then the side `on` has it too: what asks there makes no second one.
        Raises Unavailable where that cannot be had."""
        account = await self.find(self._flags.meaning(self.entity).primary, address)
        if account is None:
            return False
        await self._bring(account, address, on)
        return True

    async def find(self, side: SideName, address: str) -> Document | None:
        where = {self._rule.field: self._mapper.parse(self._rule.field, address)}
        found = await self._stores[side].perform(Operation(self.entity, "read", where))
        return found.documents[0] if found.documents else None

    async def _create(self, address: str) -> Document:
        data = {self._rule.field: self._mapper.parse(self._rule.field, address)}
        await self._gate.enter()
        try:
            confirm = self._confirmations.begin(self.entity)
            meaning = self._flags.meaning(self.entity)
            store = self._stores[meaning.primary]
            try:
                outcome = await store.perform(
                    Operation(self.entity, "create", data=data), mark=self._follower.needs_mark(meaning)
                )
            except Conflict:
                found = await self.find(meaning.primary, address)  # somebody was faster
                if found is None:
                    raise
                return found
            marks = [(meaning.primary, mark) for mark in outcome.marks]
            self._replicator.changed(self.entity, outcome.keys, marks)
            confirm()
            return outcome.documents[0]
        finally:
            self._gate.leave()

    async def _bring(self, account: Document, address: str, on: SideName) -> None:
        if on != self._flags.meaning(self.entity).primary and await self.find(on, address) is None:
            await self._bringing.bring(self.entity, account[self._mapper.id])


def _unauthorised() -> Failure:
    return Failure(401, "Wallet address required")
