"""A forwarded write where no change stream is the record of it: its mark before, its keys after, as far as they are told.

The key comes from the path, or from the old server's answer. Where neither tells it the mark stays without one, for the
sweep, which takes it for every document changed since. What else such a request has changed nobody here can know.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog
from aiohttp import web

from adapters.answer import NoSuchPlace, extract
from adapters.side import Invalid, Key, SideError, Store
from config.templates import Missing, Sources
from proxy.failure import NEVER_SENT, Failure
from proxy.forwarding.tap import Tap, Undecodable
from proxy.replication.replicator import Replicator
from proxy.replication.steps import Reached, unnoticed
from proxy.requests.claims import Asked
from proxy.requests.freshness import Freshness

log = structlog.get_logger()

Forward = Callable[[Tap], Awaitable[web.StreamResponse]]


class Noted:
    def __init__(
        self,
        legacy: Store,
        replicator: Replicator,
        freshness: Freshness,
        *,
        bound: int,
        several: Collection[str] = (),
        reached: Reached = unnoticed,
    ) -> None:
        """`bound`: of an answer, in bytes; keys are not looked for in a larger one. `several`: the entities that lie in more
        than one collection."""
        self._legacy = legacy
        self._replicator = replicator
        self._freshness = freshness
        self._bound = bound
        self._several = several
        self._reached = reached

    async def forward(self, asked: Asked, forward: Forward) -> web.StreamResponse:
        """Forward the write between its mark and its keys. Raises Unavailable where no mark could be left: then nothing was
        forwarded."""
        entity, key = asked.claim.entity, _named(asked)
        # Where the record lies in several collections, a death may leave part of it changed under a key of its own.
        marks = await self._legacy.mark(entity, [key, None] if key and entity in self._several else [key])
        await self._reached("marked")
        tap = Tap(self._bound)
        try:
            response = await forward(tap)
            await self._reached("written")
        except Failure as failure:
            if failure.reason in NEVER_SENT:
                await self._take_back(entity, marks)
            raise  # otherwise it may have happened: the mark stays, and the sweep finds out
        if 400 <= response.status < 500:
            await self._take_back(entity, marks)
        elif response.status < 400 and (keys := _keys(asked, key, tap)):
            self._replicator.changed(entity, keys, [("legacy", mark) for mark in marks])
        else:
            self._freshness.forwarded(entity)
        return response

    async def _take_back(self, entity: str, marks: list[str]) -> None:
        try:
            await self._legacy.unmark(marks)
        except SideError as error:
            log.warning("mark_left", entity=entity, cause=str(error))


def _named(asked: Asked) -> Key | None:
    """The key that the route names; None where it finds its document in another way."""
    claim = asked.claim
    template = claim.where.get(claim.mapper.id)
    if template is None:
        return None
    try:
        filled = template.fill(Sources(datetime.now(UTC), asked.params, asked.query, None, None))
        return str(claim.mapper.parse(claim.mapper.id, filled))
    except (Missing, Invalid):
        return None


def _keys(asked: Asked, named: Key | None, tap: Tap) -> list[Key]:
    """The key that the route names, and those of the documents in the answer."""
    keys = {} if named is None else {named: None}
    try:
        found = extract(orjson.loads(tap.decoded()), asked.claim.route.body)
    except (Undecodable, orjson.JSONDecodeError, NoSuchPlace):
        return list(keys)
    for value in found if isinstance(found, list) else [found]:
        key = _key_in(asked, value)
        if key is not None:
            keys[key] = None
    return list(keys)


def _key_in(asked: Asked, value: Any) -> Key | None:
    mapper = asked.claim.mapper
    try:
        return str(mapper.parse(mapper.id, value[mapper.body_name(mapper.id)])) if isinstance(value, dict) else None
    except (KeyError, Invalid):
        return None
