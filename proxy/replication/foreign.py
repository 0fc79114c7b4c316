"""Changes of legacy documents that are not ours, where prisma is the truth: reported, and overwritten by settling."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from adapters.mongo.change_stream import ChangeStream
from adapters.mongo.stream_events import Change
from adapters.side import SideError
from proxy.flags.view import Flags
from proxy.metrics import Metrics

log = structlog.get_logger()

_GRANULE: Final = 1
"""Seconds: the server's time of a change and of a flag are compared no finer."""


class Foreign:
    """Reports a change to legacy that neither a settle of ours nor, before the flip, a client made."""

    def __init__(self, flags: Flags, metrics: Metrics) -> None:
        self._flags = flags
        self._metrics = metrics
        self._looked = 0.0

    async def heard(self, change: Change, stream: ChangeStream) -> None:
        """Report it, if it is one. Who settles it asks the flags again: they may have been looked at here."""
        await self._look(stream)
        meaning = self._flags.meaning(change.entity)
        if meaning.primary != "prisma" or not meaning.settles or self._is_old(change, stream):
            return
        self._metrics.legacy_changed.labels(change.entity).inc()
        log.warning("legacy_changed", entity=change.entity, key=change.key, kind=change.kind)

    async def _look(self, stream: ChangeStream) -> None:
        """A flip to shadow may have been decided just before this change, and be news to this replica: look at the flags
        once for each batch of changes, after it has come."""
        if self._looked >= stream.fetched:
            return
        self._looked = asyncio.get_running_loop().time()
        try:
            await self._flags.refresh()
        except SideError as error:
            log.debug("flags_unreadable", cause=str(error))

    def _is_old(self, change: Change, stream: ChangeStream) -> bool:
        """Whether it is heard again, from a saved position on, and was made while legacy was the truth."""
        flipped = self._flags[change.entity].changed_at
        if stream.opened is None or change.clock > stream.opened or flipped is None:
            return False
        return bool(change.clock.time <= int(flipped.timestamp()) + _GRANULE)
