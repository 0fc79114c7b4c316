"""The lease: when a replica may acknowledge writes, moment by moment."""

from __future__ import annotations

import math

import pytest

from proxy.flags import lease as module
from proxy.flags.lease import LEASE, Lease


class Time:
    """A clock that a test sets, and when the flags were last looked at by it."""

    def __init__(self) -> None:
        self.at = 100.0
        self.looked = -math.inf


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr(module, "now", lambda: time.at)
    return time


@pytest.fixture
def lease(time: Time) -> Lease:
    return Lease(lambda: time.looked)


def test_register_then_look_then_hold(lease: Lease, time: Time) -> None:
    time.looked = 100.0
    assert lease.tenure() is None
    time.at = 101.0
    lease.confirm(100.5)
    assert lease.tenure() is None, "the look was begun before a beat had been confirmed"
    time.looked = 101.0
    assert lease.tenure() == 1


def held(lease: Lease, time: Time) -> int:
    lease.confirm(time.at)
    time.looked = time.at
    tenure = lease.tenure()
    assert tenure is not None
    return tenure


def test_it_lapses_by_when_the_beat_was_begun(lease: Lease, time: Time) -> None:
    tenure = held(lease, time)
    time.at += 2.0
    lease.confirm(100.5)
    time.at = 100.5 + LEASE - 0.01
    assert lease.tenure() == tenure
    time.at = 100.5 + LEASE
    assert lease.tenure() is None


def test_beats_in_time_are_one_tenure(lease: Lease, time: Time) -> None:
    tenure = held(lease, time)
    for _ in range(10):
        time.at += LEASE - 0.1
        lease.confirm(time.at - 0.05)
        assert lease.tenure() == tenure


def test_a_late_confirmation_is_a_gap(lease: Lease, time: Time) -> None:
    """The beat was begun in time, but the store may have recorded it only after it had declared the replica gone."""
    tenure = held(lease, time)
    time.at += LEASE
    lease.confirm(time.at - 0.5)
    assert lease.tenure() is None, "it has not looked since"
    time.looked = time.at
    assert lease.tenure() == tenure + 1


def test_an_old_confirmation_shortens_nothing(lease: Lease, time: Time) -> None:
    tenure = held(lease, time)
    time.at += 1.0
    lease.confirm(time.at)
    lease.confirm(time.at - 0.9)
    time.at += LEASE - 0.1
    assert lease.tenure() == tenure


def test_what_is_given_up_is_not_held(lease: Lease, time: Time) -> None:
    tenure = held(lease, time)
    lease.give_up()
    assert lease.tenure() is None
    assert held(lease, time) == tenure + 1


def test_the_clock_goes_on_while_the_process_is_stopped() -> None:
    first = module.now()
    assert module.now() >= first
