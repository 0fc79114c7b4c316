"""The legacy side through its old endpoints, so that their business logic runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import orjson
from multidict import CIMultiDict
from yarl import URL

from adapters.answer import NoSuchPlace, extract
from adapters.documents.mapping import Mapper
from adapters.side import Conflict, HttpRequest, Invalid, Missing, Operation, Outcome, SideError, Unavailable

_OURS: Final = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "expect",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "keep-alive",
        "proxy-connection",
        "range",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers that are not passed on: what belongs to a connection (RFC 9110 7.6.1), or asks for less than a whole answer."""

_PIECE: Final = 1 << 16


class Refused(SideError):
    """The old endpoint answered neither with what was asked for nor with a refusal that has a name of its own."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the old endpoint answered {status}")
        self.status = status


@dataclass(frozen=True, slots=True)
class Answers:
    """How an entity's documents are read out of its endpoint's answers: `place` says where, see `adapters.answer`."""

    mapper: Mapper
    place: Callable[[Operation], str]


class EndpointSide:
    """One old server as a `Side`. It performs an operation by sending the request that came with it.

    The session is the caller's. `deadline` is that of a whole request, in seconds; `most` bounds an answer, in bytes.
    """

    def __init__(
        self,
        base_url: str,
        session: aiohttp.ClientSession,
        answers: Mapping[str, Answers],
        *,
        deadline: float = 10.0,
        connect: float = 3.0,
        most: int = 16 << 20,
    ) -> None:
        self._base = base_url.rstrip("/")
        self._session = session
        self._answers = answers
        self._timeout = aiohttp.ClientTimeout(total=deadline, sock_connect=connect)
        self._probe = aiohttp.ClientTimeout(total=connect)
        self._most = most

    async def connect(self) -> None:
        """Nothing to do: the session connects when it needs to."""

    async def disconnect(self) -> None:
        """Nothing to do: the session is the caller's."""

    async def is_healthy(self) -> bool:
        """Whether the server answers at all, whatever it answers."""
        try:
            async with self._session.head(self._url("/"), timeout=self._probe, allow_redirects=False):
                return True
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def perform(self, operation: Operation, *, mark: bool = False) -> Outcome:
        """As `Side.perform` says, but for marks: raises SideError, for only a store can keep them.

        What the endpoint did is known only as far as its answer tells: `keys` are those of the documents in it.
        """
        if mark or operation.request is None:
            raise SideError(f"{operation.entity}: an endpoint takes a request and keeps no marks")
        write = _writes(operation)
        with _translated(write):
            status, body = await self._exchange(operation.request)
            if status == 404:
                return Outcome()
            if not 200 <= status < 300:
                raise _refusal(status, write)
            try:
                return self._outcome(operation, body) if body else Outcome()
            except Invalid as error:
                if write:
                    raise _Unreadable(str(error)) from error
                raise

    async def answer(self, request: HttpRequest) -> Any:
        """The JSON at the request's `place` in the answer to a read. Raises Missing for 404, and as `perform` does."""
        with _translated(write=False):
            status, body = await self._exchange(request)
            if status == 404:
                raise Missing("the old endpoint answered 404")
            if not 200 <= status < 300:
                raise _refusal(status, write=False)
            return _found(body, request.place)

    async def _exchange(self, request: HttpRequest) -> tuple[int, bytes]:
        headers = CIMultiDict([pair for pair in request.headers if pair[0].lower() not in _OURS])
        async with self._session.request(
            request.method,
            self._url(request.target),
            headers=headers,
            data=request.body,
            timeout=self._timeout,
            allow_redirects=False,
        ) as response:
            return response.status, await self._bounded(response) if response.ok else b""

    async def _bounded(self, response: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        async for piece in response.content.iter_chunked(_PIECE):
            body += piece
            if len(body) > self._most:
                raise _Unreadable(f"more than {self._most} bytes")
        return bytes(body)

    def _outcome(self, operation: Operation, body: bytes) -> Outcome:
        answers = self._answers[operation.entity]
        found = _found(body, answers.place(operation))
        values = found if isinstance(found, list) else [found]
        mapper = answers.mapper
        documents = tuple([mapper.document_from_answer(value) for value in values if value is not None])
        return Outcome(documents, tuple([document[mapper.id] for document in documents]) if _writes(operation) else ())

    def _url(self, target: str) -> URL:
        return URL(self._base + target, encoded=True)


def _writes(operation: Operation) -> bool:
    return operation.do not in ("read", "list")


class _Unreadable(Exception):
    """An answer from which no document can be read."""


def _found(body: bytes, place: str) -> Any:
    try:
        return extract(orjson.loads(body), place)
    except orjson.JSONDecodeError as error:
        raise _Unreadable("it is no JSON") from error
    except NoSuchPlace as error:
        raise _Unreadable(str(error)) from error


@contextmanager
def _translated(write: bool) -> Iterator[None]:
    try:
        yield
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise Unavailable(f"cannot be reached ({type(error).__name__})") from error
    except _Unreadable as error:
        raise Unavailable(f"its answer cannot be read: {error}", sent=write) from error
    except (TimeoutError, aiohttp.ClientError) as error:
        raise Unavailable(f"did not answer ({type(error).__name__})", sent=write) from error


def _refusal(status: int, write: bool) -> SideError:
    """Its body may quote personal data, so only the status travels."""
    if status in (400, 422):
        return Invalid("request", f"the old endpoint answered {status}")
    if status == 409:
        return Conflict(())
    if status >= 500:
        return Unavailable(f"answered {status}", sent=write)
    return Refused(status)
