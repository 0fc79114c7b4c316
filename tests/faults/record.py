"""What clients did and were told: every write with its outcome, every error, every latency. The checker's evidence."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

Do = Literal["create", "update", "delete"]
Outcome = Literal["under way", "done", "unknown", "never"]
"""`unknown`: it may have happened, or may still; `never`: it cannot have."""

STALE: Final = "read: stale"

LATE: Final = 15.0
"""Seconds after its beginning within which a write of unknown outcome may still land; past them it has or never will."""


@dataclass(slots=True)
class Write:
    """One write as its client saw it; times are those of the campaign's event loop."""

    entity: str
    do: Do
    tag: str
    value: Any
    began: float
    ended: float = 0.0
    outcome: Outcome = "under way"

    def landed_by(self) -> float:
        """The latest moment at which it can have taken effect."""
        return self.ended if self.outcome == "done" else self.began + LATE


@dataclass(frozen=True, slots=True)
class Trouble:
    """An error, or an answer that contradicts what was acknowledged before; `url` is whom was asked, where anybody was. The
    request had begun at `began`."""

    at: float
    entity: str
    kind: str
    url: str = ""
    began: float = 0.0


@dataclass(frozen=True, slots=True)
class Timed:
    at: float
    entity: str
    seconds: float
    write: bool


@dataclass(slots=True)
class Record:
    """`prefix` begins the tags of this record's documents, and of no other's. `by_key` holds the writes of each document
    whose key a client has learnt, the creating one first; `nameless` creates that no answer named a key for."""

    prefix: str
    by_key: dict[tuple[str, str], list[Write]] = field(default_factory=dict)
    nameless: dict[str, Write] = field(default_factory=dict)
    errors: list[Trouble] = field(default_factory=list)
    contradictions: list[Trouble] = field(default_factory=list)
    timed: list[Timed] = field(default_factory=list)
    reads: int = 0

    def begin(self, entity: str, do: Do, tag: str, value: Any, key: str | None = None) -> Write:
        write = Write(entity, do, tag, value, now())
        if key is None:
            self.nameless[tag] = write
        else:
            self.by_key[entity, key].append(write)
        return write

    def named(self, write: Write, key: str) -> None:
        """The create's answer told the key."""
        del self.nameless[write.tag]
        self.by_key[write.entity, key] = [write]

    def error(self, began: float, entity: str, kind: str, url: str = "") -> None:
        self.errors.append(Trouble(now(), entity, kind, url, began))

    def contradicted(self, entity: str, kind: str) -> None:
        self.contradictions.append(Trouble(now(), entity, kind))

    @property
    def acknowledged(self) -> int:
        return sum(write.outcome == "done" for writes in self.by_key.values() for write in writes)

    @property
    def unknown(self) -> int:
        every = [*self.nameless.values(), *(write for writes in self.by_key.values() for write in writes)]
        return sum(write.outcome == "unknown" for write in every)

    def errors_by_kind(self) -> Counter[str]:
        return kinds(self.errors)


def kinds(troubles: Iterable[Trouble]) -> Counter[str]:
    return Counter(trouble.kind for trouble in troubles)


def now() -> float:
    return asyncio.get_running_loop().time()


def explained(writes: list[Write], value: Any, *, exists: bool) -> bool:
    """Whether this is what the document may be after these writes: the value, or the absence, of one that may have been the
    last to land. A write that was acknowledged has landed between its beginning and its end."""
    return any(
        _may_be_last(write, writes)
        for write in writes
        if (write.do != "delete" and exists and write.value == value) or (write.do == "delete" and not exists)
    ) or (not exists and _never_made(writes))


def _may_be_last(write: Write, writes: list[Write]) -> bool:
    if write.outcome == "never":
        return False
    return not any(other.outcome == "done" and other.began >= write.landed_by() for other in writes)


def _never_made(writes: list[Write]) -> bool:
    return all(write.outcome != "done" for write in writes)
