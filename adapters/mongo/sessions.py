"""The sessions that settles run their transactions in, known to others before they are used.

A process that is killed in a transaction leaves it open on the server, with the locks of its keys, for a minute. So the
ids of its sessions stand in the registry of replicas before their first use: whoever finds the process gone ends them.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import structlog
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorClientSession, AsyncIOMotorDatabase
from pymongo import ASCENDING

from adapters.mongo.calls import GRACE, within
from adapters.side import Unavailable

MOST: Final = 16
"""Sessions that one process uses at a time; further settles wait."""
_AT_ONCE: Final = 4
"""Sessions made, and recorded, with one call."""
_LAST_WORD: Final = 1.0
"""Seconds for telling the server to drop a transaction that was cut short."""
_FORGOTTEN: Final = 24 * 3600 * 1000
"""Milliseconds that the record of a process without a name outlives its last session: nobody else clears it up."""

log = structlog.get_logger()

SessionId = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Lent:
    """A session in one settle's hands. `number` tells it from all that are lent at the same time: 0 to MOST - 1."""

    session: AsyncIOMotorClientSession
    number: int


@dataclass(slots=True, eq=False)
class _Doubt:
    """A session whose transaction may be open. Until `until` (of the loop's clock) a thread of the driver may still send
    what it was told to; `killed`: it has been ended once."""

    id: SessionId
    until: float
    killed: bool = False


class Sessions:
    """`replica` names the process in the registry (`strangler_replicas`); without it a name is made up.

    `deadline` (seconds) is that of a whole loan, what is done with the session included.
    """

    def __init__(
        self,
        client: AsyncIOMotorClient[dict[str, Any]],
        database: AsyncIOMotorDatabase[dict[str, Any]],
        replica: str | None,
        deadline: float,
    ) -> None:
        self._client = client
        self._database = database
        self._registry = database["strangler_replicas"]
        self._named = replica is not None
        self._deadline = deadline
        self._fresh: list[AsyncIOMotorClientSession] = []
        self._free: list[AsyncIOMotorClientSession] = []
        self._numbers = list(range(MOST))
        self._room = asyncio.Semaphore(MOST)
        self._making = asyncio.Lock()
        self._doubts: list[_Doubt] = []
        self._recorded: dict[bytes, SessionId] = {}
        self.owner = replica or f"command-{secrets.token_hex(8)}"

    @property
    def ids(self) -> list[SessionId]:
        """Of every session that may hold something."""
        return list(self._recorded.values())

    async def create_indexes(self) -> None:
        await self._registry.create_index([("until", ASCENDING)], expireAfterSeconds=0)

    async def take_over(self) -> None:
        """End what a process of the same name has left, which is not there any more. Inside a deadline of the caller's."""
        if self._named and not self._recorded:
            row = await self._registry.find_one({"_id": self.owner}, {"sessions": 1})
            theirs = (row or {}).get("sessions", [])
            await self.kill(theirs)
            await self._strike_out(theirs)

    @asynccontextmanager
    async def lent(self) -> AsyncIterator[Lent]:
        """A session for one settle. Raises Unavailable, then also from what is done with it, when the deadline passes.

        A loan that ends with Unavailable or is cancelled may leave a transaction, maybe in its commit: the session is
        ended and never used again, for a thread of the driver may still be at it.
        """
        lent: Lent | None = None
        try:
            async with within(self._deadline, write=True), self._room:
                lent = await self._lend()
                try:
                    yield lent
                finally:
                    self._numbers.append(lent.number)
        except BaseException as error:
            if lent is not None:
                await self._returned(lent.session, isinstance(error, Unavailable | asyncio.CancelledError))
            raise
        self._free.append(lent.session)

    async def kill(self, ids: Sequence[SessionId]) -> None:
        """End these sessions with what they have open; unknown ones are no error. Inside a deadline of the caller's."""
        if ids:
            await self._database.command("killSessions", ids, codec_options=self._database.codec_options)

    async def close(self) -> None:
        """End what is open and leave the registry. Raises Unavailable."""
        async with within(_LAST_WORD, write=True):
            await self.kill([doubt.id for doubt in self._doubts])
            if self._recorded:
                await self._registry.delete_one({"_id": self.owner})
            self._recorded.clear()
            for session in self._free:
                await session.end_session()
            self._free.clear()

    async def _lend(self) -> Lent:
        async with self._making:
            # That we have got here does not mean that the server answers; that this returns does.
            await self._end_doubts()
            if not self._free:
                await self._make()
            return Lent(self._free.pop(), self._numbers.pop(0))

    async def _make(self) -> None:
        if not self._fresh:
            self._fresh = [await self._client.start_session() for _ in range(_AT_ONCE)]
        ids = [session.delegate.session_id for session in self._fresh]
        fields: dict[str, Any] = {"sessions": {"$setUnion": [{"$ifNull": ["$sessions", []]}, {"$literal": ids}]}}
        if self._named:
            # It may settle before its first beat: from now on it is one to wait for.
            fields |= {"at": {"$ifNull": ["$at", "$$NOW"]}, "epochs": {"$ifNull": ["$epochs", {"$literal": {}}]}}
        else:
            fields["until"] = {"$add": ["$$NOW", _FORGOTTEN]}
        self._recorded |= {id["id"]: id for id in ids}
        await self._registry.update_one({"_id": self.owner}, [{"$set": fields}], upsert=True)
        self._free, self._fresh = [*self._free, *self._fresh], []

    async def _returned(self, session: AsyncIOMotorClientSession, cut_short: bool) -> None:
        """End a transaction that was cut short: the server would keep its locks for a minute. Where it does not listen
        now, the next loan begins with that."""
        if not cut_short and not session.delegate.in_transaction:
            self._free.append(session)
            return
        now = asyncio.get_running_loop().time()
        self._doubts.append(_Doubt(session.delegate.session_id, now + self._deadline + GRACE))
        try:
            async with within(_LAST_WORD, write=True):
                await self._end_doubts()
        except Unavailable as error:
            log.warning("transaction_left", cause=str(error))

    async def _end_doubts(self) -> None:
        """Once at once, and once more when nothing can come after it."""
        now = asyncio.get_running_loop().time()
        due = [doubt for doubt in self._doubts if not doubt.killed or doubt.until < now]
        if not due:
            return
        await self.kill([doubt.id for doubt in due])
        for doubt in due:
            doubt.killed = True
        over = [doubt for doubt in due if doubt.until < now]
        self._doubts = [doubt for doubt in self._doubts if doubt not in over]
        for doubt in over:
            self._recorded.pop(doubt.id["id"], None)
        await self._strike_out([doubt.id for doubt in over])

    async def _strike_out(self, ids: Sequence[SessionId]) -> None:
        if ids:
            await self._registry.update_one({"_id": self.owner}, {"$pullAll": {"sessions": ids}})
