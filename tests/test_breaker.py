"""The circuit breaker by itself: what opens it, what it then spares, and what closes it again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from adapters.side import Conflict, SideError, Unavailable
from proxy.breaker import FAILURES, Breaker, Open, State
from proxy.failure import Failure
from proxy.metrics import Metrics
from tests.proxy_case import recorded

DEADLINE = 20.0


class Subject:
    """A side that answers, refuses, fails or hangs as it is told, and a breaker before it."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.asked = 0
        self.probed = 0
        self.healthy = asyncio.Event()
        self.watched = asyncio.Event()
        self.breaker = Breaker("prisma", self._probe, self.metrics)

    async def _probe(self) -> bool:
        self.probed += 1
        self.watched.set()
        return self.healthy.is_set()

    async def ask(self, ends: Exception | None = None, *, within: float = DEADLINE) -> str:
        return await self.breaker.ask(self.call(ends), within=within)

    def call(self, ends: Exception | None) -> Callable[[], Awaitable[str]]:
        async def call() -> str:
            self.asked += 1
            if ends is not None:
                raise ends
            return "answer"

        return call

    async def hang(self) -> str:
        self.asked += 1
        never: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        return await never

    async def fail(self, times: int) -> None:
        for _ in range(times):
            with pytest.raises(Unavailable):
                await self.ask(Unavailable("away"))

    async def state(self, state: State) -> None:
        async with asyncio.timeout(DEADLINE):
            while self.breaker.state is not state:
                await asyncio.sleep(0.005)

    def gauge(self) -> float | None:
        return self.metrics.registry.get_sample_value("strangler_breaker", {"side": "prisma"})


@pytest.fixture
async def subject() -> AsyncIterator[Subject]:
    made = Subject()
    yield made
    await made.breaker.stop()


async def test_it_opens_after_failures_in_a_row_and_then_nobody_asks(subject: Subject) -> None:
    await subject.fail(FAILURES - 1)
    assert await subject.ask() == "answer"  # from here it counts anew
    await subject.fail(FAILURES - 1)
    assert (subject.breaker.admits, subject.gauge()) == (True, State.CLOSED)
    await subject.fail(1)
    assert (subject.breaker.admits, subject.gauge()) == (False, State.OPEN)
    asked = subject.asked
    with pytest.raises(Open):
        await subject.ask()
    assert subject.asked == asked


async def test_time_outs_count_like_failures(subject: Subject) -> None:
    for _ in range(FAILURES):
        with pytest.raises(TimeoutError):
            await subject.breaker.ask(subject.hang, within=0.01)
    assert not subject.breaker.admits


@pytest.mark.parametrize("refusal", [Conflict(["jobId"]), SideError("no")], ids=["conflict", "side"])
async def test_a_refusal_is_an_answer(subject: Subject, refusal: SideError) -> None:
    await subject.fail(FAILURES - 1)
    with pytest.raises(type(refusal)):
        await subject.ask(refusal)
    await subject.fail(FAILURES - 1)
    assert subject.breaker.admits


async def test_what_is_not_the_side_s_says_nothing(subject: Subject) -> None:
    await subject.fail(FAILURES - 1)
    for _ in range(FAILURES):
        with pytest.raises(Failure):
            await subject.ask(Failure(502, "An upstream refused"))
    assert subject.breaker.admits
    await subject.fail(1)
    assert not subject.breaker.admits


async def test_a_client_that_leaves_says_nothing(subject: Subject) -> None:
    for _ in range(FAILURES):
        left = asyncio.create_task(subject.breaker.ask(subject.hang, within=DEADLINE))
        asked = subject.asked
        while subject.asked == asked:
            await asyncio.sleep(0)
        left.cancel()
        with pytest.raises(asyncio.CancelledError):
            await left
    assert subject.breaker.admits


async def test_its_own_probe_closes_it(subject: Subject) -> None:
    with recorded() as events:
        subject.breaker.trip("away at the start")
        with pytest.raises(Open):
            await subject.ask()
        async with asyncio.timeout(DEADLINE):
            await subject.watched.wait()
        assert not subject.breaker.admits
        subject.healthy.set()
        await subject.state(State.CLOSED)
    assert await subject.ask() == "answer"
    assert subject.gauge() == State.CLOSED
    said = [(event["state"], event["cause"]) for event in events if event["event"] == "breaker"]
    assert said[0] == ("open", "away at the start")
    assert said[1:] == [("half_open", None), ("open", None)] * (subject.probed - 1) + [
        ("half_open", None),
        ("closed", None),
    ]


async def test_one_that_answers_probes_only_is_trusted_less_each_time(subject: Subject) -> None:
    """A first failure opens it again, and its probes go on being counted, until a real call succeeds."""
    subject.healthy.set()
    await subject.fail(FAILURES)
    await subject.state(State.CLOSED)
    with recorded() as events:
        await subject.fail(1)
        assert not subject.breaker.admits
        await subject.state(State.CLOSED)
    assert [event["probes"] for event in events if event["event"] == "breaker"] == [1, 2, 2]
    assert await subject.ask() == "answer"
    await subject.fail(FAILURES - 1)
    assert subject.breaker.admits


async def test_a_call_from_before_says_nothing_of_now(subject: Subject) -> None:
    subject.healthy.set()
    begun, release = asyncio.Barrier(FAILURES + 1), asyncio.Event()

    async def late() -> str:
        await begun.wait()
        await release.wait()
        raise Unavailable("it was away then")

    calls = [asyncio.create_task(subject.breaker.ask(late, within=DEADLINE)) for _ in range(FAILURES)]
    await begun.wait()
    await subject.fail(FAILURES)
    await subject.state(State.CLOSED)
    release.set()
    ended = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(error, Unavailable) for error in ended)
    assert subject.breaker.admits
