"""The campaigns' own tools: the relay, the record and the checker; and a seeded selection of each campaign."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
from bson import ObjectId
from pymongo import AsyncMongoClient

from adapters.side import SideName
from tests.faults import flip, kill, links, pause, poison, steps, stores
from tests.faults.campaign import Campaign, Size
from tests.faults.checker import differences, judge
from tests.faults.holdings import Holdings
from tests.faults.record import LATE, Outcome, Record, Write, explained
from tests.faults.relay import Relay, relayed
from tests.faults.subjects import SUBJECTS, Json

Ask = Callable[[bytes], Coroutine[None, None, bytes]]


class Echo:
    """A server that answers each line with itself. `heard` is what reached it."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                self.heard.append(line)
                writer.write(line)
        except ConnectionError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def echoing() -> AsyncIterator[tuple[Echo, Relay]]:
    echo = Echo()
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    async with relayed("echo", server.sockets[0].getsockname()[1]) as relay:
        yield echo, relay
    server.close()


@asynccontextmanager
async def client(relay: Relay) -> AsyncIterator[Ask]:
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)

    async def ask(line: bytes) -> bytes:
        writer.write(line)
        async with asyncio.timeout(10):
            return await reader.readline()

    try:
        yield ask
    finally:
        writer.close()


async def test_a_relay_passes_everything_on() -> None:
    async with echoing() as (_, relay), client(relay) as ask:
        big = b"x" * 60_000 + b"\n"
        assert await ask(b"hello\n") == b"hello\n"
        assert await ask(big) == big


async def test_what_is_delayed_comes_in_order_and_before_what_comes_after() -> None:
    async with echoing() as (echo, relay), client(relay) as ask:
        relay.delay(0.05)
        assert await ask(b"one\n") == b"one\n"
        late = asyncio.create_task(ask(b"two\n"))
        await asyncio.sleep(0)
        relay.heal()
        assert await late == b"two\n"
        assert echo.heard == [b"one\n", b"two\n"]


async def test_a_cut_resets_what_there_is_and_whoever_comes() -> None:
    async with echoing() as (_, relay):
        async with client(relay) as ask:
            assert await ask(b"one\n") == b"one\n"
            relay.cut()
            with pytest.raises(ConnectionError):
                await ask(b"two\n")
        async with client(relay) as ask:
            with pytest.raises(ConnectionError):
                await ask(b"three\n")
        relay.heal()
        async with client(relay) as ask:
            assert await ask(b"four\n") == b"four\n"


async def test_one_connection_is_cut_and_the_others_go_on() -> None:
    async with echoing() as (_, relay), client(relay) as first, client(relay) as second:
        assert await first(b"one\n") == b"one\n"
        assert await second(b"one\n") == b"one\n"
        relay.connections[0].reset()
        answers = await asyncio.gather(first(b"two\n"), second(b"three\n"), return_exceptions=True)
        assert sum(isinstance(answer, ConnectionError) for answer in answers) == 1


async def test_a_hole_swallows_and_nobody_is_told_until_it_heals() -> None:
    async with echoing() as (echo, relay), client(relay) as ask:
        assert await ask(b"one\n") == b"one\n"
        relay.hole()
        lost = asyncio.create_task(ask(b"two\n"))
        while not relay.swallowed:
            await asyncio.sleep(0.01)
        assert not lost.done()
        assert echo.heard == [b"one\n"]
        relay.heal()
        with pytest.raises(ConnectionError):
            await lost
        async with client(relay) as again:
            assert await again(b"three\n") == b"three\n"


async def test_a_lost_answer_is_that_of_a_request_that_arrived() -> None:
    async with echoing() as (echo, relay):
        relay.lose_answers(1, holding=b"write")
        async with client(relay) as ask:
            assert await ask(b"read\n") == b"read\n"
            with pytest.raises(ConnectionError):
                await ask(b"write\n")
        async with asyncio.timeout(10):
            await relay.answers_lost()
        assert echo.heard == [b"read\n", b"write\n"]
        async with client(relay) as ask:
            assert await ask(b"write\n") == b"write\n"


async def test_transactions_and_change_streams_work_through_a_relay(mongo_database: str) -> None:
    parts = urlsplit(mongo_database)
    assert parts.port is not None
    async with relayed("mongo", parts.port) as relay:
        url = parts._replace(netloc=f"127.0.0.1:{relay.port}").geturl() + "?directConnection=true"
        async with AsyncMongoClient[Json](url) as mongo:
            database = mongo.get_default_database()
            await database.create_collection("things")
            async with await database["things"].watch() as stream:
                async with mongo.start_session() as session, await session.start_transaction():
                    await database["things"].insert_one({"_id": 1}, session=session)
                async with asyncio.timeout(10):
                    change = await stream.next()
        assert change["documentKey"] == {"_id": 1}


# The record: what a document may be after what its clients did


def write(value: str | None, began: float, ended: float, outcome: Outcome = "done") -> Write:
    return Write("video", "update" if value else "delete", "tag", value, began, ended, outcome)


CREATED = Write("video", "create", "tag", "new", 0, 1, "done")


@pytest.mark.parametrize(
    ("writes", "value"),
    [
        ([CREATED], "new"),
        ([CREATED, write("a", 2, 3)], "a"),
        ([CREATED, write("a", 2, 4), write("b", 3, 5)], "a"),  # both under way at once: either may be the last
        ([CREATED, write("a", 2, 4), write("b", 3, 5)], "b"),
        ([CREATED, write("a", 2, 3, "unknown")], "new"),
        ([CREATED, write("a", 2, 3, "unknown")], "a"),
        ([CREATED, write("a", 2, 3, "unknown"), write("b", 4, 5)], "b"),
        ([CREATED, write("a", 2, 3, "unknown"), write("b", 4, 5)], "a"),  # it may have landed late
        ([CREATED, write(None, 2, 3)], None),
        ([CREATED, write(None, 2, 3, "unknown")], None),
        ([CREATED, write(None, 2, 3, "unknown")], "new"),
    ],
)
def test_what_may_be_there_is_explained(writes: list[Write], value: str | None) -> None:
    assert explained(writes, value, exists=value is not None)


@pytest.mark.parametrize(
    ("writes", "value"),
    [
        ([CREATED], None),
        ([CREATED], "never written"),
        ([CREATED, write("a", 2, 3)], "new"),
        ([CREATED, write("a", 2, 3), write("b", 3.5, 5)], "a"),
        ([CREATED, write("a", 2, 3, "never")], "a"),
        ([CREATED, write("a", 2, 3, "unknown"), write("b", 3 + LATE, 4 + LATE)], "a"),
        ([CREATED, write(None, 2, 3)], "new"),
        ([CREATED, write("a", 2, 3), write("b", 4, 5, "unknown")], "new"),
        ([CREATED, write("a", 2, 3, "unknown")], None),
    ],
)
def test_what_was_lost_is_not(writes: list[Write], value: str | None) -> None:
    assert not explained(writes, value, exists=value is not None)


# The checker

PREFIX = "run.1"
ON_LEGACY: dict[str, SideName] = dict.fromkeys(SUBJECTS, "legacy")


def held(legacy: dict[str, Json], prisma: dict[str, Json]) -> Holdings:
    nothing: dict[str, dict[str, Json]] = {entity: {} for entity in SUBJECTS}
    return Holdings({**nothing, "video": legacy}, {**nothing, "video": prisma}, {"legacy": 0, "prisma": 0})


def video(title: str, tag: str = f"{PREFIX}-c0-1") -> Json:
    return {"jobId": tag, "title": title}


def record_of(*writes: Write) -> tuple[Record, str]:
    record, key = Record(PREFIX), str(ObjectId())
    record.by_key["video", key] = list(writes)
    return record, key


def test_the_checker_finds_what_the_stores_differ_in() -> None:
    both = held({"k": video("a"), "l": video("a")}, {"k": video("b"), "m": video("a")})
    assert differences(both) == (
        "video k (title)",
        "video l (only on legacy)",
        "video m (only on prisma)",
    )
    assert differences(held({"k": video("a")}, {"k": video("a")})) == ()


def test_the_checker_finds_a_lost_update_a_lost_create_and_a_lost_delete() -> None:
    for writes, document in (
        ([CREATED, write("a", 2, 3)], video("new")),
        ([CREATED], None),
        ([CREATED, write(None, 2, 3)], video("new")),
    ):
        record, key = record_of(*writes)
        holdings = held({} if document is None else {key: document}, {})
        lost, foreign = judge(holdings, record, ON_LEGACY)
        assert len(lost) == 1
        assert foreign == ()


def test_the_checker_finds_what_nobody_wrote() -> None:
    record, key = record_of(CREATED)
    theirs = {key: video("new"), "x": video("a", "somebody else's"), "y": video("a", f"{PREFIX}-c9-9")}
    lost, foreign = judge(held(theirs, {}), record, ON_LEGACY)
    assert lost == ()
    assert len(foreign) == 2


def test_a_create_whose_answer_was_lost_and_one_of_an_earlier_stretch_are_ours() -> None:
    record = Record(PREFIX)
    record.nameless[f"{PREFIX}-c9-9"] = Write("video", "create", f"{PREFIX}-c9-9", "a", 0, 1, "unknown")
    theirs = {"y": video("a", f"{PREFIX}-c9-9"), "z": video("a", "run.0-c1-1")}
    assert judge(held(theirs, {}), record, ON_LEGACY) == ((), ())


# A seeded selection of each campaign

SEED = 20260


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("campaign", "most"),
    [
        (kill.CAMPAIGN, 3),
        (steps.CAMPAIGN, 3),
        (stores.CAMPAIGN, 2),
        (links.CAMPAIGN, 2),
        (flip.CAMPAIGN, 1),
        (pause.CAMPAIGN, 1),
        (poison.CAMPAIGN, 2),
    ],
    ids=("kill", "steps", "stores", "relay", "flip", "pause", "poison"),
)
async def test_nothing_is_lost(campaign: Campaign, most: int) -> None:
    lines: list[str] = []
    result = await campaign.whole(Size(share=0.02, most=most, scenes=1), SEED, lines.append)
    assert not result.failures, "\n".join([*result.failures, *lines])
    assert result.acknowledged
    assert result.scenarios.total()
