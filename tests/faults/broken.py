"""The rules of the protocol, each with a way to disobey it: what a campaign's checker has to catch."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final
from unittest import mock

from adapters.mongo.store import MongoStore
from adapters.prisma.store import PrismaStore
from adapters.side import Applied, Document, Key, SideError, Stale
from proxy.flags.gate import Gate
from proxy.flags.lease import Lease
from proxy.replication import following
from proxy.replication.follow import Follower
from proxy.replication.lane import Dirty
from proxy.replication.quarantine import Quarantines
from proxy.replication.replicator import Replicator
from proxy.replication.settle import Settled
from proxy.replication.sweep import Sweep


@dataclass(frozen=True, slots=True)
class Rule:
    """What the protocol says, and the patch of a replica's process under which it does not hold."""

    says: str
    disobeyed: Callable[[], AbstractContextManager[Any]]


async def _at_once(*_: Any) -> None:
    return None


def _unmarked() -> AbstractContextManager[Any]:
    return mock.patch.object(Follower, "needs_mark", return_value=False)


@contextmanager
def _position_first() -> Iterator[None]:
    with (
        mock.patch.object(Replicator, "drained", _at_once),
        mock.patch.object(following, "_SAVE_EVERY", 0.02),
    ):
        yield


def _cleared_first() -> AbstractContextManager[Any]:
    settle = Replicator._settle

    async def clear_and_settle(self: Replicator, entity: str, batch: Mapping[Key, Dirty]) -> Settled:
        await self._unmark(batch)
        return await settle(self, entity, batch)

    return mock.patch.object(Replicator, "_settle", clear_and_settle)


def _forgotten() -> AbstractContextManager[Any]:
    settle = Replicator._settle

    async def settle_or_forget(self: Replicator, entity: str, batch: Mapping[Key, Dirty]) -> Settled:
        try:
            return await settle(self, entity, batch)
        except SideError:
            return Settled()

    return mock.patch.object(Replicator, "_settle", settle_or_forget)


async def _nothing_more(*_: Any) -> bool:
    return False


def _unswept() -> AbstractContextManager[Any]:
    return mock.patch.object(Sweep, "_look", _nothing_more)


@contextmanager
def _unheld() -> Iterator[None]:
    with mock.patch.object(Gate, "hold", return_value=None), mock.patch.object(Gate, "drained", _at_once):
        yield


def _never_lapsed() -> AbstractContextManager[Any]:
    return mock.patch.object(Lease, "tenure", return_value=1)


Apply = Callable[[Any, str, int, int, Mapping[Key, Document | None]], Awaitable[Applied]]


@contextmanager
def _any_term() -> Iterator[None]:
    def blind(apply: Apply) -> Apply:
        async def apply_anyway(
            self: Any, entity: str, term: int, token: int, documents: Mapping[Key, Document | None]
        ) -> Applied:
            try:
                return await apply(self, entity, term, token, documents)
            except Stale as stale:
                return await apply(self, entity, max(stale.term, 0), token, documents)

        return apply_anyway

    with ExitStack() as patches:
        for store in (MongoStore, PrismaStore):
            patches.enter_context(mock.patch.object(store, "apply", blind(store.apply)))
        yield


def _let_go() -> AbstractContextManager[Any]:
    return mock.patch.object(Quarantines, "put", _at_once)


RULES: Final[Mapping[str, Rule]] = {
    "mark": Rule("a write on prisma leaves a mark in its own transaction", _unmarked),
    "position": Rule("the stream's position is saved only after the keys before it have settled", _position_first),
    "clear": Rule("a mark is cleared after its key has settled, not before", _cleared_first),
    "retry": Rule("a settle that failed is tried again", _forgotten),
    "sweep": Rule("marks that outlive their writer are swept", _unswept),
    "hold": Rule("a replica acknowledges a fence when it holds new writes, and those in flight have ended", _unheld),
    "lease": Rule("a write is acknowledged only if the replica's lease still holds", _never_lapsed),
    "term": Rule("a settle of an earlier term is refused", _any_term),
    "quarantine": Rule("what the secondary refuses is kept in quarantine", _let_go),
}
