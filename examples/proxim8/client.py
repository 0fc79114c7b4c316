"""A client of the Proxim8 API that knows what a right answer looks like, and tallies every one that is not."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any, Final, Never

import aiohttp
import orjson
from yarl import URL

from examples.proxim8.tally import Kind, Tally
from examples.proxim8.token import bearer

_METHODS_THAT_READ: Final = frozenset({"GET", "HEAD"})


class Unexpected(Exception):
    """An answer was wrong. It has been tallied; whoever asked no longer knows the state of what it asked about."""


class Client:
    """One user's calls. `route` is a method and a path with a {} for each argument, as in `GET /api/videos/{}`."""

    def __init__(self, base_url: str, session: aiohttp.ClientSession, tally: Tally, secret: str) -> None:
        self.session = session
        self._base_url = URL(base_url)
        self._tally = tally
        self._secret = secret
        self._tokens: dict[str, str] = {}

    def url(self, path: str) -> URL:
        return self._base_url.join(URL(path))

    async def call(
        self,
        entity: str,
        route: str,
        *arguments: str,
        body: object = None,
        wallet: str | None = None,
        expect: int = 200,
    ) -> dict[str, Any]:
        """The whole envelope of the answer. Raises Unexpected on another status, a wrong envelope or no answer."""
        method, _, template = route.partition(" ")
        headers = {} if wallet is None else {"Authorization": self._token(wallet)}
        if body is not None:
            headers["Content-Type"] = "application/json"
        url = self.url(template.format(*arguments))
        data = None if body is None else orjson.dumps(body)
        with self.measured(entity, route):
            async with self.session.request(method, url, data=data, headers=headers) as response:
                envelope = await response.json(loads=orjson.loads)
        flaw = _flaw(response.status, envelope, expect)
        self.check(entity, route, flaw is None, flaw)
        assert isinstance(envelope, dict)
        return envelope

    @contextlib.contextmanager
    def measured(self, entity: str, route: str) -> Iterator[None]:
        """Tallies what the block does as one request; a connection that fails in it raises Unexpected."""
        kind = kind_of(route)
        self._tally.request(entity, kind)
        started = time.perf_counter()
        try:
            yield
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            self.fail(entity, route, type(error).__name__)
        self._tally.answered(entity, kind, time.perf_counter() - started)

    def check(self, entity: str, route: str, right: bool, otherwise: object) -> None:
        """Raises Unexpected, saying `otherwise`, unless what was shown is right."""
        if not right:
            self.fail(entity, route, str(otherwise))

    def fail(self, entity: str, route: str, what: str) -> Never:
        self._tally.error(entity, kind_of(route), route, what)
        raise Unexpected(f"{route}: {what}")

    def _token(self, wallet: str) -> str:
        if wallet not in self._tokens:
            self._tokens[wallet] = bearer(self._secret, wallet)
        return self._tokens[wallet]


def kind_of(route: str) -> Kind:
    return "read" if route.partition(" ")[0] in _METHODS_THAT_READ else "write"


def _flaw(status: int, envelope: object, expect: int) -> str | None:
    if status != expect:
        said = envelope.get("error") if isinstance(envelope, dict) else None
        return f"answered {status} instead of {expect}: {said}"
    if not isinstance(envelope, dict) or envelope.get("success") is not (expect < 400):
        return f"{status} in a wrong envelope"
    if expect < 400:
        return None if "data" in envelope else f"{status} without data"
    error = envelope.get("error")
    return None if isinstance(error, str) and error else f"{status} without an error"
