"""The pace of a long run, how long it waits for a store, and what it says meanwhile."""

from __future__ import annotations

import asyncio
import io
import json
from typing import Any

import pytest
from rich.console import Console
from structlog.testing import capture_logs

from adapters.side import Invalid, SideName, Unavailable
from proxy.migration.copy.sameness import Sameness
from proxy.migration.run.bars import Bars
from proxy.migration.run.health import Strain
from proxy.migration.run.pace import Pace
from proxy.migration.run.patience import GivenUp, Patience
from proxy.migration.run.progress import Lines, Meter

WELL: dict[SideName, float] = {"legacy": 0.002, "prisma": 0.002}


# Batches


async def test_batches_grow_while_they_are_quick_and_shrink_when_they_are_slow() -> None:
    pace = Pace()
    first = pace.most
    for _ in range(20):
        await pace.took(pace.most, 0.01)
    grown = pace.most
    assert grown > first
    for _ in range(50):
        await pace.took(pace.most, 2.0)
    assert 0 < pace.most < first


async def test_a_small_batch_tells_nothing_of_larger_ones() -> None:
    """Large documents fill a batch before it has many keys: that it was quick does not say that more are."""
    pace = Pace()
    before = pace.most
    await pace.took(3, 0.001)
    assert pace.most == before


# Rate


async def test_a_rate_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """By what it waits for, whatever the clock says: 1000 documents at 500 a second wait for 2 seconds in all."""
    waited: list[float] = []

    async def wait(seconds: float) -> None:
        waited.append(seconds)

    pace = Pace(500)
    monkeypatch.setattr("proxy.migration.run.pace.asyncio.sleep", wait)
    for _ in range(11):
        await pace.allow(100)
    assert max(waited) == pytest.approx(2.0, abs=0.1)
    assert waited[0] == 0


async def test_a_rate_makes_batches_small_enough_to_be_even() -> None:
    assert Pace(40).most == 10
    assert Pace(1).most == 1
    assert Pace(1e9).most == Pace().most


# Strain


async def test_strained_stores_are_given_rest_and_easing_takes_it_back(monkeypatch: pytest.MonkeyPatch) -> None:
    rests: list[float] = []

    async def rest(seconds: float) -> None:
        rests.append(seconds)

    monkeypatch.setattr("proxy.migration.run.pace.asyncio.sleep", rest)
    pace = Pace()
    await pace.took(10, 0.2)
    assert rests == []
    pace.strained()
    await pace.took(10, 0.2)
    pace.strained()
    await pace.took(10, 0.2)
    assert rests == [pytest.approx(0.2), pytest.approx(0.6)]
    for _ in range(100):
        pace.strained()
    assert 0 < pace.share < 0.1
    for _ in range(100):
        pace.eased()
    assert pace.share == 1.0


def test_what_strains_a_store_is_said() -> None:
    assert Strain(WELL).reasons == []
    assert Strain({**WELL, "prisma": 1.5}).reasons == ["prisma takes 1.5 s to answer"]
    assert Strain(WELL, lag=4.0).reasons == ["replication is 4.0 s behind"]
    assert Strain(WELL, waiting=50).reasons == ["50 calls wait for a connection to PostgreSQL"]


# Patience


class Answer:
    """Comes once it has failed so often."""

    def __init__(self, failures: int, error: Exception | None = None) -> None:
        self.asked = 0
        self._failures = failures
        self._error = error or Unavailable("away")

    async def __call__(self) -> str:
        self.asked += 1
        if self.asked <= self._failures:
            raise self._error
        return "answer"


async def test_a_store_that_is_away_is_asked_again_and_both_are_said() -> None:
    said: list[str | None] = []
    patience, answer = Patience(60, said.append), Answer(3)
    with capture_logs() as logs:
        assert await patience.through(answer) == "answer"
    assert (answer.asked, patience.waits, said) == (4, 3, ["away", None])
    assert [log["event"] for log in logs] == ["store_away", "store_back"]


async def test_patience_ends() -> None:
    patience, answer = Patience(0.0), Answer(10**6)
    with pytest.raises(GivenUp, match="away"):
        async with asyncio.timeout(20):
            await patience.through(answer)


async def test_what_a_document_is_to_blame_for_is_not_asked_again() -> None:
    answer = Answer(1, Invalid("bio", "is no text"))
    with pytest.raises(Invalid):
        await Patience().through(answer)
    assert answer.asked == 1


async def test_trouble_is_over_only_with_an_answer_that_was_asked_for_after_it_began() -> None:
    """An answer that was on its way as the store went away does not say that it is back."""
    said: list[str | None] = []
    patience, go_on = Patience(60, said.append), asyncio.Event()

    async def before() -> None:
        await go_on.wait()

    early = asyncio.create_task(patience.through(before))
    await asyncio.sleep(0)
    late = asyncio.create_task(patience.through(Answer(2)))
    while not said:
        await asyncio.sleep(0)
    go_on.set()
    await early
    assert said == ["away"]
    await late
    assert said == ["away", None]


# Asking what is the same


def test_a_first_run_hardly_asks_and_a_run_over_what_is_there_always_does() -> None:
    first, again = Sameness(), Sameness()
    asked = {"first": 0, "again": 0}
    for _ in range(200):
        if first.asks():
            asked["first"] += 1
            first.learn(500, 0)
        if again.asks():
            asked["again"] += 1
            again.learn(500, 480)
    assert asked["first"] <= 12
    assert asked["again"] == 200


def test_it_finds_out_where_what_is_there_begins() -> None:
    sameness = Sameness()
    for _ in range(100):
        if sameness.asks():
            sameness.learn(500, 0)
    asked = 0
    for _ in range(100):
        if sameness.asks():
            asked += 1
            sameness.learn(500, 500)
    assert asked > 60


# Progress


def test_time_left_is_never_negative_and_unknown_where_nobody_knows() -> None:
    meter = Meter(100, 0)
    meter.moved(150)
    assert meter.rate > 0
    assert meter.eta == 0.0
    assert Meter(100, 0).eta is None
    assert Meter(None, 0).eta is None


def test_json_lines_hold_no_more_than_one_a_second_but_always_the_summary() -> None:
    out = io.BytesIO()
    lines = Lines("backfill", out)
    lines.begin("video", 100, 0)
    for done in range(100):
        lines.show(done, {"written": done})
    lines.say("away")
    lines.say(None)
    lines.end({"documents": 100})
    said: list[dict[str, Any]] = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["event"] for line in said] == ["waits", "goes on", "done"]
    assert said[0]["cause"] == "away"
    assert said[-1] == {"event": "done", "command": "backfill", "entity": "video", "documents": 100}


def test_a_progress_line_says_how_far_how_fast_and_how_long_still(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("proxy.migration.run.progress.time.monotonic", lambda: clock[0])
    out = io.BytesIO()
    lines = Lines("backfill", out)
    lines.begin("video", 100, 10)
    clock[0] += 2.0
    lines.show(50, {"written": 38, "refused": 2})
    [line] = [json.loads(line) for line in out.getvalue().splitlines()]
    assert line == {
        "event": "progress",
        "command": "backfill",
        "entity": "video",
        "written": 38,
        "refused": 2,
        "done": 50,
        "total": 100,
        "rate": 20.0,
        "eta": 2.5,
    }


def test_a_terminal_shows_a_bar_and_at_the_end_what_was_refused() -> None:
    out = io.StringIO()
    with Bars(Console(file=out, force_terminal=True, width=160)) as bars:
        bars.begin("video", 10, 0)
        bars.show(12, {"written": 11, "refused": 1})
        bars.say("prisma is away")
        bars.end({"documents": 12, "refused": 1, "reasons": {"65f0": "title: is no text"}})
    text = out.getvalue()
    assert "video: 12 documents, 1 refused" in text
    assert "65f0: title: is no text" in text
