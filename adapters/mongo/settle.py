"""Settling on Mongo: read documents under a token, apply documents under fences (the design's four rules)."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bson.errors import BSONError
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorClientSession, AsyncIOMotorDatabase
from pymongo import ReturnDocument, UpdateOne, WriteConcern
from pymongo.errors import DuplicateKeyError, OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import Primary

from adapters.mongo.calls import as_side_error, is_transient, within
from adapters.mongo.collection import Raw
from adapters.mongo.rows import Rows
from adapters.mongo.sessions import Sessions
from adapters.mongo.terms import SLOTS, gate, known, turn
from adapters.side import Applied, Conflict, Document, Held, Invalid, Key, Stale

MAJORITY: Final = WriteConcern("majority")
FIRST_DELAY: Final = 0.005
LONGEST_DELAY: Final = 0.5
"""Seconds between attempts of a transaction that met another: doubled each time, with full jitter."""

NAMESPACE_EXISTS: Final = 48

_LATER: Final = {"$max": ["$value", {"$multiply": [{"$toLong": "$$NOW"}, 1000]}]}


class Settling:
    """One database's counter (`strangler_tokens`) and fences (`strangler_fences`).

    Every call has the deadline `deadline` (seconds) and raises Unavailable. `retries` counts transactions run again.
    """

    def __init__(
        self,
        client: AsyncIOMotorClient[Raw],
        database: AsyncIOMotorDatabase[Raw],
        rows: Mapping[str, Rows],
        sessions: Sessions,
        deadline: float,
    ) -> None:
        self._client = client
        self._database = database
        self._rows = rows
        self._sessions = sessions
        self._tokens = database["strangler_tokens"]
        self._deadline = deadline
        self._first_slot = random.randrange(SLOTS)
        self.retries = 0

    async def create_collections(self) -> None:
        """The fences have to be there: of two transactions that both create their collection neither would see the other.

        The counter too, so that its first token is not an insert that two may try. It goes on from the time, in
        microseconds: a database that was dropped, or put back from a copy, has forgotten its last tokens, and the fences on
        the other side have not.
        """
        try:
            await self._database.create_collection("strangler_fences", check_exists=False)
        except OperationFailure as error:
            if error.code != NAMESPACE_EXISTS:
                raise
        with contextlib.suppress(DuplicateKeyError):
            await self._tokens.update_one({"_id": "token"}, [{"$set": {"value": _LATER}}], upsert=True)

    async def hold(self, entity: str, keys: Sequence[Key]) -> Held:
        """Take a token, then read the documents. `clock` is a BSON timestamp (None on a standalone server).

        The counter moves on with majority, so no token is ever given twice, not by the next primary either. One
        causally consistent session takes the token and reads: its read waits for, and sees, everything that the primary
        had applied when the token was taken, whatever write concern it was acknowledged with. Read concern majority, so
        that nothing is copied that a change of primary could still take back.
        """
        async with within(self._deadline), await self._client.start_session(causal_consistency=True) as session:
            counter = await self._tokens.find_one_and_update(
                {"_id": "token"},
                {"$inc": {"value": 1}},
                upsert=True,
                return_document=ReturnDocument.AFTER,
                session=session,
            )
            # Taken between the two: the server may answer the read with a later time than that of what it read.
            clock = session.delegate.operation_time
            found = await self._rows[entity].read(keys, session)
        return Held(int(counter["value"]), found.documents, found.refused, clock)

    async def apply(self, entity: str, term: int, token: int, documents: Mapping[Key, Document | None]) -> Applied:
        """As `Store.apply` says."""
        rows = self._rows[entity]
        async with self._sessions.lent() as lent:
            slot = (self._first_slot + lent.number) % SLOTS
            settle = _Settle(lent.session, self._database, entity, rows, term, token, slot, self._count_retry)
            return await settle.apply(documents)

    async def turn(self, entity: str, term: int) -> None:
        """As `Store.turn` says."""
        async with within(self._deadline, write=True):
            await turn(self._database["strangler_fences"], entity, term)

    def _count_retry(self) -> None:
        self.retries += 1


@dataclass(frozen=True, slots=True)
class _Settle:
    """One token's settle of some keys of an entity, in transactions of one session."""

    session: AsyncIOMotorClientSession
    database: AsyncIOMotorDatabase[Raw]
    entity: str
    rows: Rows
    term: int
    token: int
    slot: int
    on_retry: Callable[[], None]

    async def apply(self, documents: Mapping[Key, Document | None]) -> Applied:
        applied = await self._halving(documents)
        if not (applied.refused and applied.written):
            return applied
        # What another key of this settle has just given up (a unique value) is free now.
        again = await self._halving({key: documents[key] for key in applied.refused})
        return _merged(Applied(applied.written, applied.superseded), again)

    async def _halving(self, documents: Mapping[Key, Document | None]) -> Applied:
        """What a transaction cannot take together is halved until only the culprits are refused."""
        if not documents:
            return Applied()
        try:
            return await self._retrying(documents)
        except (Conflict, Invalid) as error:
            keys = sorted(documents)
            if len(keys) == 1:
                return Applied(refused={keys[0]: error})
        middle = len(keys) // 2
        halves = (keys[:middle], keys[middle:])
        return _merged(*[await self._halving({key: documents[key] for key in half}) for half in halves])

    async def _retrying(self, documents: Mapping[Key, Document | None]) -> Applied:
        """One transaction, run again while it meets others; the caller's deadline ends that.

        Raises Conflict, Invalid or Stale.
        """
        delay, slot = FIRST_DELAY, self.slot
        while True:
            self.session.start_transaction(ReadConcern("snapshot"), MAJORITY, Primary())
            try:
                applied = await self._transaction(documents, slot)
                await _commit(self.session)
                return applied
            except (PyMongoError, BSONError, OverflowError, Stale) as error:
                if self.session.delegate.in_transaction:
                    await self.session.abort_transaction()
                if isinstance(error, Stale):
                    raise
                if not (isinstance(error, PyMongoError) and is_transient(error)):
                    raise as_side_error(error, self.rows.field_of) from None
            self.on_retry()
            await asyncio.sleep(random.uniform(0, delay))
            # Another process may be using the same slot: not twice.
            delay, slot = min(2 * delay, LONGEST_DELAY), random.randrange(SLOTS)

    async def _transaction(self, documents: Mapping[Key, Document | None], slot: int) -> Applied:
        passed = await self._fence(documents, slot)
        plan = await self.rows.plan({key: documents[key] for key in sorted(passed)}, self.session)
        if plan.fences:
            # A fence that is higher already changes all the same: only then does the change stream tell of it.
            raised = self._raised(plan.fences, beside=self.token)
            await self.database["strangler_fences"].bulk_write(raised, ordered=False, session=self.session)
        for name, writes in plan.writes.items():
            if writes:
                await self.database[name].bulk_write(writes, ordered=plan.in_order, session=self.session)
        return Applied(passed - plan.refused.keys(), frozenset(documents) - passed, plan.refused)

    async def _fence(self, keys: Mapping[Key, object], slot: int) -> frozenset[Key]:
        """Pass the gate, and raise the fences that are below the token, with one call. Returns the keys whose fence is now
        the token. Raises Stale.

        A settle that is sent again, because the answer to its commit was lost, passes as it did the first time.
        """
        fences = self.database["strangler_fences"]
        ids = [{"e": self.entity, "k": key} for key in sorted(keys)]
        raised = self._raised((self.entity, key) for key in sorted(keys))
        passing = gate(self.entity, self.term, slot)
        result = await fences.bulk_write([passing, *raised], ordered=False, session=self.session)
        if result.matched_count + result.upserted_count <= len(ids):
            raise Stale(await known(fences, self.entity, slot, self.session))
        if result.modified_count + result.upserted_count > len(ids):
            return frozenset(keys)
        ours = fences.find({"_id": {"$in": ids}, "token": self.token}, {"_id": 1}, session=self.session)
        return frozenset([row["_id"]["k"] async for row in ours])

    def _raised(self, keys: Iterable[tuple[str, Key]], **fields: int) -> list[UpdateOne]:
        """Raise the fences of these keys, each with its entity, to the token."""
        highest = [{"$set": {"token": {"$max": ["$token", self.token]}, **fields}}]
        return [UpdateOne({"_id": {"e": entity, "k": key}}, highest, upsert=True) for entity, key in keys]


async def _commit(session: AsyncIOMotorClientSession) -> None:
    """Commit, and ask again while the answer is lost: the server commits once. The caller's deadline ends that."""
    delay = FIRST_DELAY
    while True:
        try:
            await session.commit_transaction()
            return
        except PyMongoError as error:
            if is_transient(error) or not error.has_error_label("UnknownTransactionCommitResult"):
                raise
        await asyncio.sleep(random.uniform(0, delay))
        delay = min(2 * delay, LONGEST_DELAY)


def _merged(*parts: Applied) -> Applied:
    return Applied(
        frozenset().union(*(part.written for part in parts)),
        frozenset().union(*(part.superseded for part in parts)),
        {key: error for part in parts for key, error in part.refused.items()},
    )
