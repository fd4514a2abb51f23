"""Quotas in a test's own time: rates refill, classes do not touch each other, tables stay small."""

import random

import pytest

from services.session.domain import quotas
from services.session.domain.errors import AnonymousQuota, CallerQuota
from services.session.domain.quotas import Limits, Quotas


class Time:
    def __init__(self):
        self.now_s = 1000.0

    def __call__(self):
        return self.now_s


def made(**limits):
    time = Time()
    return Quotas(Limits(**limits), time, random.Random(1).randbytes), time


def admitted(q, address=""):
    try:
        with q.anonymous(address):
            return True
    except AnonymousQuota:
        return False


def test_a_rate_is_a_burst_of_a_second_and_then_itself():
    q, time = made(anonymous=10)
    assert sum(admitted(q) for _ in range(50)) == 10
    for _ in range(20):
        time.now_s += 0.5
        assert sum(admitted(q) for _ in range(50)) == 5
    time.now_s += 3600
    assert sum(admitted(q) for _ in range(50)) == 10


def test_no_more_at_once_than_allowed_and_a_failure_gives_its_place_back():
    q, _ = made(anonymous_in_flight=2)
    with q.anonymous(""), q.anonymous(""):
        assert not admitted(q)
    with pytest.raises(ZeroDivisionError), q.anonymous(""):
        raise ZeroDivisionError
    with q.anonymous(""), q.anonymous(""):
        assert not admitted(q)


def test_one_address_does_not_use_up_what_others_may():
    q, time = made(anonymous=1000, anonymous_per_address=5)
    assert sum(admitted(q, "192.0.2.1") for _ in range(5000)) == 5
    assert sum(admitted(q, f"192.0.2.{n}") for n in range(2, 250)) == 248
    time.now_s += 60
    assert admitted(q, "192.0.2.1")


def test_a_flood_of_addresses_is_counted_in_a_bounded_table():
    q, _ = made(anonymous=10**6, anonymous_per_address=3, max_addresses=10)
    assert sum(admitted(q, f"a{n}") for n in range(1000)) == 13, "those beyond share one place"
    assert admitted(q, "a1"), "those that were known are counted for themselves"


def test_callers_are_counted_apart_and_callers_without_number_together(monkeypatch):
    monkeypatch.setattr(quotas, "MAX_CALLERS", 3)
    q, time = made(per_caller=2)
    for caller in "abc":
        q.called(caller)
        q.called(caller)
        with pytest.raises(CallerQuota) as error:
            q.called(caller)
        assert error.value.retry_after_s == pytest.approx(0.5)
    q.called("d")
    q.called("e")
    with pytest.raises(CallerQuota):
        q.called("f")
    time.now_s += 0.5
    q.called("a")
    unlimited, _ = made()
    for _ in range(100_000):
        unlimited.called("a")


def test_a_flood_is_told_once_a_second_with_its_size():
    q, time = made(anonymous=1)
    told = []
    for turn in range(300):
        if not admitted(q) and (count := q.to_tell()):
            told.append(count)
        time.now_s = 1000.0 + turn / 100
    assert len(told) <= 4 and sum(told) <= 300
