"""Follow the legacy collections: what the old servers wrote is learnt from the change stream, and settled."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Final

import structlog

from adapters.change_stream import ChangeStream, StreamLost
from adapters.mongo import MongoStore
from adapters.side import SideError
from proxy.flags import Flags
from proxy.metrics import Metrics
from proxy.replicator import Replicator
from proxy.stages import Meaning
from proxy.tasks import Tasks

log = structlog.get_logger()

_NAME: Final = "follow"
_LONGEST_PAUSE: Final = 10.0
_START: Final = 3.0
_SAVE_EVERY: Final = 1.0
"""Seconds between two saves of the position; a crash follows again from the last one, and settling twice is harmless."""


class Follower:
    """Hands every change of a collection whose entity has legacy as primary to the replicator, and with that is the
    record of what was written there. Without a Mongo it waits for one; what happened meanwhile comes from the saved
    position on."""

    def __init__(
        self, store: MongoStore, flags: Flags, replicator: Replicator, metrics: Metrics, *, replica: str
    ) -> None:
        self._store = store
        self._flags = flags
        self._replicator = replicator
        self._metrics = metrics
        self._replica = replica
        self._stream: ChangeStream | None = None
        self._opened = asyncio.Event()
        self._recording = asyncio.Event()
        self._tasks = Tasks()

    async def start(self) -> None:
        """Follow, and return once there is a saved position to go on from: from here no write needs a mark. A Mongo that
        is away, or has no change streams, does not keep the proxy from starting."""
        self._tasks.start("follow", self._run())
        self._tasks.start("follow-save", self._save())
        try:
            async with asyncio.timeout(_START):
                await self._recording.wait()
        except TimeoutError:
            log.error("change_stream_away", replica=self._replica)

    async def stop(self) -> None:
        await self._tasks.stop()
        if self._stream is not None:
            with contextlib.suppress(SideError):
                await self._stream.close()

    def needs_mark(self, meaning: Meaning) -> bool:
        """Whether a write has to leave a mark. On legacy the change stream is the record of every write, whoever made it,
        from the moment that its position has been saved: a mark beside it would cost each client a second wait for the
        journal, and tell nothing new. Without the stream, and on prisma, the mark is the record."""
        return meaning.settles and not (meaning.primary == "legacy" and self._recording.is_set())

    async def caught_up(self) -> None:
        """Return once every change committed before this call is with the replicator. Bound it with a deadline. Raises
        SideError where the stream does not come back."""
        await self._opened.wait()
        assert self._stream is not None
        await self._stream.barrier()

    async def _run(self) -> None:
        failures, lost = 0, False
        while True:
            try:
                await self._follow(await self._open(anew=lost))
            except SideError as error:
                failures += 1
                lost = isinstance(error, StreamLost)
                self._recording.clear()
                self._opened.clear()
                self._stream = None
                self._metrics.stream_restarts.inc()
                # After a lost stream keys may have been missed: only a verification can tell which.
                log.critical("change_stream_lost", cause=str(error), failures=failures, keys_missed=lost)
                await asyncio.sleep(min(_LONGEST_PAUSE, 0.1 * 2 ** min(failures, 10)) * random.uniform(0.5, 1.0))

    async def _open(self, *, anew: bool) -> ChangeStream:
        position = None if anew else await self._store.state.load_position(_NAME)
        stream = self._store.changes(replica=self._replica, resume=position)
        await stream.open()
        self._stream = stream
        self._opened.set()
        if position is not None:
            self._recording.set()
        return stream

    async def _follow(self, stream: ChangeStream) -> None:
        async for change in stream:
            meaning = self._flags.meaning(change.entity)
            if meaning.primary != "legacy" or not meaning.settles:
                continue
            if change.key is None:
                # A collection dropped or renamed, or a document whose id is no key: nothing that settling could copy.
                log.error("change_without_key", entity=change.entity, kind=change.kind)
            else:
                await self._replicator.followed(change.entity, change.key, change.clock)

    async def _save(self) -> None:
        """Save the position only after the keys before it have settled. The first one at once: it is what a crash goes on
        from."""
        saved = None
        while True:
            try:
                if not self._recording.is_set():
                    await self.caught_up()
                position = self._stream.position if self._stream else None
                if position is not None and position != saved:
                    await self._replicator.drained()
                    await self._store.state.save_position(_NAME, position)
                    saved = position
                    self._recording.set()
            except SideError as error:
                log.warning("position_unsaved", cause=str(error))
            await asyncio.sleep(_SAVE_EVERY)
