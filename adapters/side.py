"""The words that every way of reaching a side speaks: operation, outcome, refusal, store.

A side is reached in three ways: through Motor (`adapters.mongo.store`), through the Prisma models (`adapters.prisma.store`)
and through the old endpoints (`adapters.endpoint`). All three are a `Side`; the first two hold the data themselves and
are a `Store` as well: they can mark, count, fence and apply, which is all that replication asks of them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

Document = dict[str, Any]
"""One record by Prisma field name, in canonical values: str, int, float, Decimal, bool, None, aware UTC datetime with
milliseconds, bytes, list (of these: a scalar list) and, for a Json field, any JSON value."""

Key = str
"""An entity's identity, the same on both sides: by default the 24 hex digits of an ObjectId."""

SideName = Literal["legacy", "prisma"]
Do = Literal["create", "read", "list", "update", "delete"]


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request as an old endpoint takes it: `target` is the raw path and query. `place` says where in its answer the
    document, or the list of them, is: `$.data`."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    place: str = "$"


@dataclass(frozen=True, slots=True)
class Operation:
    """What a matched request asks of an entity, in canonical values, whichever side performs it.

    `where` holds equalities; `data` the fields to create or change; `order` pairs of field and descending.
    `request` is the same operation as the old endpoint takes it, where a request is at hand.
    """

    entity: str
    do: Do
    where: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    order: tuple[tuple[str, bool], ...] = ()
    take: int | None = None
    skip: int = 0
    request: HttpRequest | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a side answered: the documents (none: not found), the keys written and the marks that were left for them."""

    documents: tuple[Document, ...] = ()
    keys: tuple[Key, ...] = ()
    marks: tuple[str, ...] = ()


class SideError(Exception):
    """A side did not do what was asked."""


class Invalid(SideError):
    """A value that cannot be what its field needs; nothing was written."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class Conflict(SideError):
    """A unique value that exists already; nothing was written."""

    def __init__(self, fields: Sequence[str]) -> None:
        super().__init__(f"{', '.join(fields) or 'value'} already exists")
        self.fields = tuple(fields)


class Orphan(SideError):
    """A reference to a document that does not exist; nothing was written."""

    def __init__(self, field: str) -> None:
        super().__init__(f"{field} refers to nothing")
        self.field = field


class Unreadable(SideError):
    """What a store holds cannot be mapped: the document's trouble, not that of who asks for it."""


class Missing(SideError):
    """What was to be read or changed does not exist."""


class Unavailable(SideError):
    """The side could not be reached or did not answer in time. `sent`: the write may have happened all the same."""

    def __init__(self, cause: str, *, sent: bool = False) -> None:
        super().__init__(cause)
        self.sent = sent


class Stale(SideError):
    """A settle of another term than `term`, the one that its secondary knows (-1: none yet): nothing was written."""

    def __init__(self, term: int) -> None:
        super().__init__(f"the secondary is at term {term}")
        self.term = term


class Side(Protocol):
    """A way to reach a side."""

    async def connect(self) -> None: ...

    async def disconnect(self) -> None: ...

    async def is_healthy(self) -> bool:
        """Whether the side answers now. Never raises."""
        ...

    async def perform(self, operation: Operation, *, mark: bool = False) -> Outcome:
        """Perform the operation. With `mark`, a write leaves a durable mark before it can be seen: mark before write.

        Raises Invalid, Conflict or Orphan for what the side refused (its mark is gone again), Unavailable for what it
        could not do, or may have done (its mark stays when `sent`).
        """
        ...


@dataclass(frozen=True, slots=True)
class Mark:
    """A durable note, in the primary's store, that a key is about to change. No key: a create that did not know it.
    `at` and `age` (seconds) are by the store's own clock."""

    id: str
    entity: str
    key: Key | None
    at: datetime
    age: float = 0.0


@dataclass(frozen=True, slots=True)
class Backlog:
    """What an outbox holds of an entity: how many marks, and the seconds since the oldest of them."""

    marks: int = 0
    oldest: float = 0.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """A key that the secondary cannot take, kept with the primary: why, since when, how often it was tried, and the seconds
    since the last time."""

    entity: str
    key: Key
    reason: str
    since: datetime
    tries: int
    age: float = 0.0


@dataclass(frozen=True, slots=True)
class Held:
    """What a store holds of some keys, read after the token was taken: the documents, and those that cannot be mapped,
    with why. A key in neither does not exist. `clock` is the store's own time of that read, where it keeps one: changes
    at or before it are in what was read."""

    token: int
    documents: Mapping[Key, Document]
    refused: Mapping[Key, SideError] = field(default_factory=dict)
    clock: Any = None


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of one settle: keys written, keys whose fence was already higher, keys that the store refused."""

    written: frozenset[Key] = frozenset()
    superseded: frozenset[Key] = frozenset()
    refused: Mapping[Key, SideError] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Flag:
    """Where an entity stands. `target` is the stage that a fenced flip goes to; while it is set new writes are held.

    `epoch` counts the changes. `term` is the epoch at which it was last decided which side is the primary: settles carry
    it, and a secondary that knows a later one refuses them. `age`: seconds since the change, by the store's own clock.
    """

    entity: str
    stage: str
    epoch: int
    target: str | None = None
    serve: int = 0
    sample: int = 100
    term: int = 0
    changed_at: datetime | None = None
    changed_by: str = ""
    age: float = 0.0


@dataclass(frozen=True, slots=True)
class Replica:
    """One running proxy: the epoch it has acknowledged for each entity, what it counted lately (comparisons and mismatches
    by entity), and the seconds since it last said so by the store's own clock."""

    id: str
    epochs: Mapping[str, int]
    seen: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    age: float = 0.0


@dataclass(frozen=True, slots=True)
class Range:
    """Keys that follow each other in a store's own order, and the place at which the next ones begin: a text that only
    this store reads."""

    keys: tuple[Key, ...]
    upto: str


@dataclass(frozen=True, slots=True)
class Run:
    """How far a command that takes long has come with an entity: kept, so that the next one goes on from there.

    `upto` is the place in the order of the store that it walks; `done`: it has come to the end. `detail` is what it has
    found so far, as JSON. `age`: seconds since it was saved, by the store's own clock.
    """

    name: str
    entity: str
    holder: str
    upto: str | None = None
    done: bool = False
    detail: Mapping[str, Any] = field(default_factory=dict)
    age: float = 0.0


class Runs(Protocol):
    """The last run of each name and entity. Every call raises Unavailable."""

    async def load(self, name: str, entity: str) -> Run | None: ...

    async def begin(self, run: Run) -> None:
        """Replace the last run: from here on only this holder saves."""
        ...

    async def save(self, run: Run) -> bool:
        """False: another one has begun since, and nothing was written."""
        ...


class State(Protocol):
    """What the proxies share, kept in both stores: flags, audit, the registry of replicas and leases."""

    async def flags(self) -> list[Flag]: ...

    async def save_flag(self, flag: Flag, *, after: int | None = None) -> bool:
        """Write the flag where the stored epoch is exactly `after` (no row counts as 0): a decision, of which there is only
        one. Without it, where the stored epoch is lower or there is no row: a copy of what was decided in the other store.
        False: nothing was written, somebody was first."""
        ...

    async def audit(self, entry: Mapping[str, Any]) -> None: ...

    async def beat(self, replica: Replica) -> None:
        """Record that the replica lives and what it has acknowledged."""
        ...

    async def replicas(self) -> list[Replica]: ...

    async def forget_replica(self, id: str, *, silent: float = 0.0) -> None:
        """Take it out of the registry, and end what it left open in this store: it is gone. With `silent` (seconds), it
        stays in the registry where it has beaten since: it was only away."""
        ...

    async def lease(self, name: str, holder: str, seconds: float) -> bool:
        """Take the lease, or renew it, for so long by the store's own clock. False: another one holds it."""
        ...

    async def release(self, name: str, holder: str) -> None:
        """Give the lease back, where this one holds it."""
        ...

    async def holder(self, name: str) -> str | None:
        """Who holds the lease now."""
        ...


class Quarantine(Protocol):
    """Keys that the secondary cannot take, kept in the primary's store until they settle or somebody discards them."""

    async def put(self, entity: str, reasons: Mapping[Key, str]) -> None:
        """Keep these keys; of one that is there already, count one more try and take the new reason."""
        ...

    async def refusals(self, entity: str | None = None, *, limit: int = 1000) -> list[Refusal]:
        """Those tried longest ago first."""
        ...

    async def stamps(self, entity: str, keys: Sequence[Key]) -> dict[Key, str]:
        """Which refusal each of these keys is here for: every `put` has a stamp of its own. Keys that are not here are left
        out."""
        ...

    async def release(self, entity: str, stamps: Mapping[Key, str]) -> int:
        """Let go of these keys where they are still here for that refusal. Returns how many were."""
        ...

    async def take(self, entity: str, keys: Sequence[Key]) -> int:
        """Let these keys go, whatever they are here for: they are given up. Returns how many there were."""
        ...

    async def sizes(self) -> dict[str, int]:
        """How many there are, by entity; entities without any are left out."""
        ...


class Store(Side, Protocol):
    """A side that holds its data itself, with the outbox, the counter and the fences that replication needs."""

    @property
    def state(self) -> State: ...

    @property
    def quarantine(self) -> Quarantine: ...

    @property
    def runs(self) -> Runs: ...

    async def mark(self, entity: str, keys: Sequence[Key | None]) -> list[str]:
        """Leave a mark for each, durably, before somebody else's write; their ids. None: the key is not known yet."""
        ...

    async def marks(self, entity: str, limit: int, *, older: float = 0.0) -> list[Mark]:
        """The oldest marks of the entity that are older than so many seconds, the oldest first."""
        ...

    async def outbox(self) -> dict[str, Backlog]:
        """What the outbox holds, by entity; entities without marks are left out."""
        ...

    async def unmark(self, ids: Sequence[str]) -> None:
        """Delete exactly these marks; those already gone are no error."""
        ...

    async def together(self, entity: str, keys: Sequence[Key]) -> Mapping[Key, Key]:
        """Keys that were not asked for and have to settle in one go with one that was: by key, that one. There are some only
        where this store keeps one record in several places."""
        ...

    async def hold(self, entity: str, keys: Sequence[Key]) -> Held:
        """Take a token from this store's counter, *then* read the documents (rules 2 and 3 of the design)."""
        ...

    async def apply(self, entity: str, term: int, token: int, documents: Mapping[Key, Document | None]) -> Applied:
        """In one transaction, conditional on the term and locking it, for each key whose fence is below the token: upsert
        (None: delete), raise the fence. Raises Stale where this store's term of the entity is another one."""
        ...

    async def turn(self, entity: str, term: int) -> None:
        """From when this returns, settles of a lower term are refused here, also those under way. Never lowers it."""
        ...

    def keys(self, entity: str, *, batch: int = 500) -> AsyncIterator[list[Key]]:
        """Every key of the entity, in batches, in the order of the key."""
        ...

    async def range(self, entity: str, after: str | None, *, most: int, size: int | None = None) -> Range | None:
        """The next keys in this store's own order from that place on (None: the beginning): at least one, at most `most`,
        and no more once their documents take about `size` bytes, where that is bounded. None: there are no more."""
        ...

    async def same(self, entity: str, documents: Mapping[Key, Document]) -> frozenset[Key]:
        """Those of these documents that this store holds exactly so, in every mapped field, at the moment of asking."""
        ...

    async def present(self, entity: str, keys: Sequence[Key]) -> frozenset[Key]:
        """Those of these keys that this store holds, whether or not their documents can be mapped. Costs less than reading
        them."""
        ...

    def changed_since(self, entity: str, at: datetime, *, batch: int = 500) -> AsyncIterator[list[Key]]:
        """The keys of documents created, or by their own account (a field that each write touches) changed, at or after
        that time: what a mark without a key stands for."""
        ...

    async def count(self, entity: str) -> int: ...
