"""Handlers: Python functions that a configuration names for what is more than a document. They work on the Prisma
client; what they write there is marked in their own transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel

from adapters.side import Document

if TYPE_CHECKING:
    from prisma import Prisma

Job = Callable[[], Awaitable[None]]


class Upstream(Protocol):
    async def __call__(self, name: str, method: str, path: str, body: Any = None) -> Any:
        """Call an upstream by its configured name with a JSON body; return its JSON. Raises Failure when it refuses."""
        ...


@dataclass(frozen=True, slots=True)
class Call:
    """What a handler is given.

    `db` is the Prisma client, for a write inside one transaction that is committed when the handler returns. `render`
    turns a record into the body that the old endpoint would have sent for it. `afterwards` adds a job that runs once the
    transaction has been committed, before the client is answered.
    """

    db: Prisma
    params: Mapping[str, str]
    query: Mapping[str, str]
    body: Mapping[str, Any]
    account: Document | None
    now: datetime
    request_id: str
    render: Callable[[str, BaseModel], dict[str, Any]]
    upstream: Upstream
    jobs: list[Job] = field(default_factory=list)

    @property
    def caller(self) -> Document:
        """The caller's account, on a route with `auth: wallet`."""
        assert self.account is not None, "the route has no auth: wallet"
        return self.account

    def afterwards(self, job: Job) -> None:
        self.jobs.append(job)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a handler answers: the whole JSON body and the status."""

    body: Any
    status: int = 200


Handler = Callable[[Call], Awaitable[Answer]]
