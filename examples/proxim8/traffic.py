"""Proxim8's traffic: fills the old servers with documents through their API, then uses all of it, steadily."""

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from types import TracebackType
from typing import Self

import aiohttp

from examples.proxim8.client import Client, Unexpected
from examples.proxim8.documents import ACCOUNT, NFT, NOTIFICATION, PROFILE, VIDEO, Document, Owner, Resource
from examples.proxim8.tally import Tally, TrafficResult
from examples.proxim8.visitor import Visitor
from examples.proxim8.visits import VISITS, Visit

__all__ = ["Seeded", "Traffic", "TrafficResult", "Unexpected"]

_LONGEST_CALL = 30.0  # seconds; a flip may hold a write for a few
_MOST_BEHIND = 1.0  # seconds that a worker may lag before what it missed is counted instead of caught up with


@dataclass(frozen=True, slots=True)
class Seeded:
    """Documents made by seeding, by entity."""

    counts: dict[str, int]

    @property
    def total(self) -> int:
        return sum(self.counts.values())


class Traffic:
    """Users of the API at `base_url`: `rate` operations a second by at most `concurrency` users at a time.

    An operation is a request, or a write and the read that checks it. What users choose depends on `seed` and on the
    worker alone; names carry a random part, so that one database can be used again. Used as `async with`.
    """

    def __init__(
        self,
        base_url: str,
        *,
        secret: str,
        seed: int = 1,
        wallets: int = 20,
        rate: float = 100.0,
        concurrency: int = 16,
    ) -> None:
        if wallets < concurrency:
            raise ValueError(f"{concurrency} workers need a wallet each, not {wallets} wallets")
        self._base_url = base_url
        self._secret = secret
        self._seed = seed
        self._rate = rate
        self._concurrency = concurrency
        self._run = secrets.token_hex(4)
        self._wallets = [f"0x{self._run}wallet{number}" for number in range(wallets)]
        self._owners: list[Owner] = []
        self._known: dict[str, list[Document]] = {}
        self._visitors: dict[int, Visitor] = {}
        self._tally = Tally()

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=2 * self._concurrency),
            timeout=aiohttp.ClientTimeout(total=_LONGEST_CALL),
        )
        self._client = Client(self._base_url, self._session, self._tally, self._secret)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    def result(self) -> TrafficResult:
        """Everything so far, seeding included; may be asked for while traffic runs."""
        return self._tally.result()

    async def seed_documents(
        self, accounts: int = 200, *, profiles: int = 400, videos: int = 600, notifications: int = 500, nfts: int = 300
    ) -> Seeded:
        """Make that many documents through the API, `concurrency` at a time; later traffic shares them.

        The wallets' own accounts come on top. Raises Unexpected at the first answer that is not right.
        """
        await self._sign_in()
        wanted = ((ACCOUNT, accounts), (PROFILE, profiles), (VIDEO, videos), (NOTIFICATION, notifications), (NFT, nfts))
        for resource, count in wanted:
            rng = Random(f"{self._seed} {resource.entity}")
            owners = [
                Owner(made["walletAddress"], made["_id"]) for made in self._known.get("account", [])
            ] or self._owners
            bodies = [
                (owner, resource.make(rng, f"{self._run}-seed-{number}", owner))
                for number, owner in enumerate(rng.choices(owners, k=count))
            ]
            self._known[resource.entity] = await self._make_all(resource, bodies)
        return Seeded({entity: len(documents) for entity, documents in self._known.items()})

    async def run(self, stop: asyncio.Event) -> TrafficResult:
        """Use the API until `stop` is set and what was begun has ended. Wrong answers are counted, never raised."""
        await self._sign_in()
        started = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as workers:
            for number in range(self._concurrency):
                workers.create_task(self._work(number, started, stop))
        return self.result()

    async def _sign_in(self) -> None:
        """Every wallet's account is found or created."""
        if self._owners:
            return
        for wallet in self._wallets:
            account = (await self._client.call("account", "GET /api/accounts/me", wallet=wallet))["data"]
            self._owners.append(Owner(wallet, account["_id"]))

    async def _make_all(self, resource: Resource, bodies: Sequence[tuple[Owner, Document]]) -> list[Document]:
        waiting = iter(enumerate(bodies))
        made: dict[int, Document] = {}

        async def make() -> None:
            for number, (owner, body) in waiting:  # shared: whoever is free takes the next one
                answer = await self._client.call(
                    resource.entity, resource.create, body=body, wallet=owner.wallet, expect=resource.created
                )
                made[number] = answer["data"]

        async with asyncio.TaskGroup() as group:
            for _ in range(self._concurrency):
                group.create_task(make())
        return [made[number] for number in range(len(bodies))]

    async def _work(self, number: int, started: float, stop: asyncio.Event) -> None:
        """One user after the other's turn: this worker's operations are due at equal distances from each other."""
        loop = asyncio.get_running_loop()
        rng = Random(f"{self._seed} worker {number}")
        owners = self._owners[number :: self._concurrency]
        if number not in self._visitors:  # in a second run they come back, with what is theirs
            self._visitors[number] = Visitor(self._client, rng, f"{self._run}-{number}", owners, self._known)
        visitor = self._visitors[number]
        weights, visits = zip(*VISITS, strict=True)
        due, interval = started + number / self._rate, self._concurrency / self._rate
        while not await _set_before(stop, due):
            self._tally.operations += 1
            (visit,) = rng.choices(visits, weights)
            await self._pay(visit, visitor)
            due += interval
            behind = loop.time() - due
            if behind > _MOST_BEHIND:
                missed = int(behind / interval) + 1
                self._tally.missed += missed
                due += missed * interval

    async def _pay(self, visit: Visit, visitor: Visitor) -> None:
        try:
            await visit(visitor)
        except Unexpected:
            pass  # tallied where it was found
        except (KeyError, TypeError, AttributeError) as error:
            self._tally.error("unknown", "read", _name(visit), f"an answer of another shape: {error!r}")


def _name(visit: Visit) -> str:
    return visit.func.__name__ if isinstance(visit, partial) else visit.__name__


async def _set_before(event: asyncio.Event, moment: float) -> bool:
    """Waits until the event is set or the loop's clock says `moment`; whether it was set."""
    try:
        async with asyncio.timeout_at(moment):
            return await event.wait()
    except TimeoutError:
        return False
