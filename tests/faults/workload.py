"""Concurrent clients of whatever replica lives: they create, change, delete and read, at a rate, and record every answer."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

import aiohttp
import orjson

from examples.proxim8.token import bearer
from proxy.failure import NEVER_SENT
from tests.faults.answers import Answer, NotAsked, Unanswered, parsed
from tests.faults.record import STALE, Record, Timed, Write, now
from tests.faults.subjects import ACCOUNT, SUBJECTS, Json, Subject

PATIENCE: Final = 30.0
"""Seconds that a client waits for an answer."""
_KEPT: Final = 10
"""Documents that a client goes on changing; older ones are left as they are, so that no later write hides what they lost."""
_HOT: Final = 6
_SETUP: Final = 30.0
_READS: Final = 0.25


@dataclass(frozen=True, slots=True)
class Load:
    """How much: writes a second over all clients, and the entities that are written."""

    rate: float = 100.0
    clients: int = 16
    entities: Sequence[str] = tuple(SUBJECTS)


@dataclass(slots=True)
class Item:
    """A document as its client knows it: what an answer said last, unless an outcome has been unknown since."""

    subject: Subject
    key: str
    tag: str
    value: Any
    certain: bool = True
    hot: bool = False


@dataclass(slots=True)
class Workload:
    """The clients of one stretch of load, and their record. `urls` says at each request who may be asked."""

    record: Record
    load: Load
    urls: Callable[[], Sequence[str]]
    session: aiohttp.ClientSession
    secret: str
    rng: Random
    hot: list[Item] = field(default_factory=list)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _answered: asyncio.Event = field(default_factory=asyncio.Event)
    _clients: list[_Client] = field(default_factory=list)
    _tokens: dict[str, str] = field(default_factory=dict)

    async def begin(self) -> list[_Client]:
        """Accounts for the clients to call with, and the documents that all of them change."""
        self._clients = clients = [_Client(self, number) for number in range(self.load.clients)]
        await asyncio.gather(*(client.join() for client in clients))
        subjects = [SUBJECTS[entity] for entity in self.load.entities if SUBJECTS[entity].marker != "isRead"]
        makers = [(clients[number % len(clients)], subjects[number % len(subjects)]) for number in range(_HOT)]
        self.hot += await asyncio.gather(*(client.make_surely(subject) for client, subject in makers))
        for item in self.hot:
            item.hot = True
        return clients

    async def seconds_answered(self, seconds: float) -> None:
        """Return once as many requests have been answered, from now on, as the load has in so many seconds."""
        enough = len(self.record.timed) + self.load.rate * seconds
        async with asyncio.timeout(PATIENCE):
            while len(self.record.timed) < enough:
                self._answered.clear()
                await self._answered.wait()

    async def change_all(self, entity: str) -> None:
        """Each client changes what it has of the entity, beside whatever else it does."""
        await asyncio.gather(*(client.change_all(entity) for client in self._clients))

    async def ask(self, subject: Subject, method: str, path: str, body: Json | None, wallet: str | None) -> Answer:
        """Raises NotAsked where nobody could be reached, Unanswered where the outcome is unknown."""
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if wallet is not None:
            headers["Authorization"] = self._bearer(wallet)
        data = None if body is None else orjson.dumps(body)
        refused: list[str] = []
        for url in self._shuffled():
            began = now()
            try:
                async with self.session.request(method, url + path, data=data, headers=headers) as response:
                    answer = Answer(url, response.status, parsed(await response.read()))
            except aiohttp.ClientConnectorError as error:
                refused.append(os.strerror(error.os_error.errno or 0))
                continue
            except (aiohttp.ClientError, TimeoutError) as error:
                raise Unanswered(url, type(error).__name__) from error
            self.record.timed.append(Timed(began, subject.entity, now() - began, method != "GET"))
            self._answered.set()
            return answer
        raise NotAsked("nobody to ask" + "".join(f", {why}" for why in refused))

    def _bearer(self, wallet: str) -> str:
        if wallet not in self._tokens:
            self._tokens[wallet] = bearer(self.secret, wallet)
        return self._tokens[wallet]

    def _shuffled(self) -> list[str]:
        urls = list(self.urls())
        self.rng.shuffle(urls)
        return urls


class _Client:
    """One user. At most one of its writes of a document is under way at a time."""

    def __init__(self, workload: Workload, number: int) -> None:
        self._workload = workload
        self._record = workload.record
        self._rng = Random(workload.rng.random())
        self._name = f"{workload.record.prefix}-c{number}"
        self._serial = 0
        self._wallet = ""
        self._account = ""
        self._kept: list[Item] = []

    async def join(self) -> None:
        account = await self.make_surely(ACCOUNT)
        self._wallet, self._account = account.tag, account.key

    async def make_surely(self, subject: Subject) -> Item:
        """Create one; whatever fails is tried again with another."""
        async with asyncio.timeout(_SETUP):
            while True:
                item = await self.create(subject)
                if item is not None:
                    return item
                await asyncio.sleep(0.1)

    async def run(self) -> None:
        pace = self._workload.load.rate / self._workload.load.clients / (1 - _READS)
        due = now() + self._rng.expovariate(pace)
        stopping = self._workload.stopping
        while not stopping.is_set():
            try:
                async with asyncio.timeout(max(0.0, due - now())):
                    await stopping.wait()
            except TimeoutError:
                # What was late is made up for, within reason.
                due = max(due, now() - 2.0) + self._rng.expovariate(pace)
                await self._act()

    async def _act(self) -> None:
        chance = self._rng.random()
        own = [item for item in self._kept if item.certain]
        if chance < _READS and own:
            await self._read(self._rng.choice(own))
        elif chance < 0.45 or not self._kept:
            entity = self._rng.choice(list(self._workload.load.entities))
            item = await self.create(SUBJECTS[entity])
            if item is not None:
                self._kept = [*self._kept[-_KEPT + 1 :], item]
        elif chance < 0.60 and self._workload.hot:
            await self._update(self._rng.choice(self._workload.hot))
        elif chance < 0.90:
            await self._update(self._rng.choice(self._kept))
        else:
            await self._delete(self._kept.pop(self._rng.randrange(len(self._kept))))

    def _next(self) -> str:
        self._serial += 1
        return f"{self._name}-{self._serial}"

    async def create(self, subject: Subject) -> Item | None:
        """None: it failed, or nobody knows."""
        tag = self._next()
        value = tag if subject.tag == subject.marker else False if subject.marker == "isRead" else f"{tag}-new"
        write = self._record.begin(subject.entity, "create", tag, value)
        answer = await self._written(
            write, subject, "POST", subject.created(), subject.make(tag, f"{tag}-new", self._account)
        )
        if answer is None:
            return None
        key = str(answer.document()[subject.id])
        self._record.named(write, key)
        return Item(subject, key, tag, value)

    async def change_all(self, entity: str) -> None:
        mine = [item for item in self._kept if item.subject.entity == entity]
        self._kept = [item for item in self._kept if item not in mine]  # while they change nothing else happens to them
        for item in mine:
            await self._update(item)
        self._kept += mine

    async def _update(self, item: Item) -> None:
        subject = item.subject
        value = subject.next_marker(self._next())
        write = self._record.begin(subject.entity, "update", item.tag, value, item.key)
        answer = await self._written(write, subject, "PATCH", subject.updated(item.key), subject.change(value))
        if answer is not None:
            item.value = value
        elif write.outcome == "unknown":
            item.certain = False  # and stays so: it may land after a later one

    async def _delete(self, item: Item) -> None:
        write = self._record.begin(item.subject.entity, "delete", item.tag, None, item.key)
        await self._written(write, item.subject, "DELETE", f"{item.subject.path}/{item.key}", None)

    async def _written(
        self, write: Write, subject: Subject, method: str, path: str, body: Json | None
    ) -> Answer | None:
        """The answer of a write that was done; otherwise what became of it is in the record alone."""
        answer: Answer | None = None
        try:
            answer = await self._workload.ask(subject, method, path, body, self._wallet if subject.of_wallet else None)
        except NotAsked as nobody:
            # The HTTP client itself tries a DELETE again whose connection broke: the first one may have arrived.
            write.outcome = "unknown" if method == "DELETE" else "never"
            self._record.error(write.began, subject.entity, f"write: {nobody}")
        except Unanswered as error:
            write.outcome = "unknown"
            self._record.error(write.began, subject.entity, f"write: {error}", error.url)
        write.ended = now()
        if answer is None:
            return None
        if answer.status < 300:
            write.outcome = "done"
            return answer
        if answer.status == 404 and method == "DELETE":
            write.outcome = "done"  # a client's own second try of a request that had been answered nowhere
        elif answer.status < 500:
            write.outcome = "never"
            self._record.contradicted(
                subject.entity, f"write: {answer.status} {path if answer.status != 404 else method}"
            )
        else:
            write.outcome = "never" if answer.reason in NEVER_SENT else "unknown"
            self._record.error(
                write.began, subject.entity, f"write: {answer.status} {answer.reason}".rstrip(), answer.url
            )
        return None

    async def _read(self, item: Item) -> None:
        subject = item.subject
        self._record.reads += 1
        began = now()
        try:
            answer = await self._workload.ask(subject, "GET", f"{subject.path}/{item.key}", None, None)
        except NotAsked as nobody:
            self._record.error(began, subject.entity, f"read: {nobody}")
        except Unanswered as error:
            self._record.error(began, subject.entity, f"read: {error}", error.url)
        else:
            if answer.status >= 500:
                self._record.error(began, subject.entity, f"read: {answer.status} {answer.reason}".rstrip(), answer.url)
            elif answer.status != 200 or answer.document().get(subject.marker) != item.value:
                self._record.contradicted(subject.entity, STALE)


@asynccontextmanager
async def working(
    urls: Callable[[], Sequence[str]], secret: str, load: Load, rng: Random, prefix: str
) -> AsyncIterator[Workload]:
    """Load for as long as the block lasts; when it ends, every client has finished what it had begun."""
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=PATIENCE)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        workload = Workload(Record(prefix), load, urls, session, secret, rng)
        clients = await workload.begin()
        running = [asyncio.create_task(client.run()) for client in clients]
        try:
            yield workload
        finally:
            workload.stopping.set()
            await asyncio.gather(*running)
