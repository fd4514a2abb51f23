"""The limit follows what it is told: up by one, down by half, in proportion when it is only slow."""

from random import Random

from services.propagation.targets.limits import AdaptiveLimit


def rounds(limit: AdaptiveLimit, now_s: float, count: int, took_s: float, good: bool = True) -> float:
    """So many rounds of answers, each as many as the limit is wide."""
    for _ in range(count):
        now_s += took_s
        for _ in range(max(1, int(limit.limit))):
            limit.pressed = True
            limit.ended(now_s, took_s, bad=not good)
    return now_s


def test_success_raises_it_by_one_a_round_as_long_as_it_is_used():
    limit = AdaptiveLimit(16, start=2)
    rounds(limit, 0.0, 5, 0.1)
    assert limit.limit == 7
    rounds(limit, 1.0, 50, 0.1)
    assert limit.limit == 16
    idle = AdaptiveLimit(16, start=2)
    for _ in range(100):
        idle.ended(1.0, 0.1)
    assert idle.limit == 2


def test_failures_halve_it_down_to_one():
    limit = AdaptiveLimit(64, start=64)
    now_s = rounds(limit, 0.0, 3, 0.1)
    now_s = rounds(limit, now_s, 1, 0.1, good=False)
    assert limit.limit == 32
    now_s = rounds(limit, now_s, 20, 0.1, good=False)
    assert limit.limit == 1
    rounds(limit, now_s, 100, 0.1)
    assert limit.limit == 64


def test_one_failure_among_many_changes_nothing():
    limit = AdaptiveLimit(64, start=64)
    rng = Random(3)
    for n in range(64 * 100):
        limit.ended(n / 100, 0.1, bad=rng.random() <= 0.03)
    assert limit.limit == 64


def test_slowness_lowers_it_in_proportion_and_no_further():
    limit = AdaptiveLimit(64, start=64)
    now_s = rounds(limit, 0.0, 20, 0.1)
    now_s = rounds(limit, now_s, 20, 1.0)
    assert 5 <= limit.limit <= 10
    rounds(limit, now_s, 100, 0.1)
    assert limit.limit == 64


def test_what_has_no_answer_yet_is_slow_too():
    limit = AdaptiveLimit(64, start=64)
    now_s = rounds(limit, 0.0, 20, 1.0)
    for n in range(20):
        limit.overdue(now_s + n, 9.0)
    assert limit.limit <= 16


def test_a_slowness_that_stays_becomes_the_usual():
    limit = AdaptiveLimit(8, start=8)
    now_s = rounds(limit, 0.0, 20, 0.1)
    now_s = rounds(limit, now_s, 5, 1.0)
    assert limit.limit < 4
    rounds(limit, now_s, 1_000, 1.0)
    assert limit.limit == 8


def test_quick_answers_are_not_judged_by_their_noise():
    limit = AdaptiveLimit(64, start=64)
    rng = Random(4)
    for n in range(64 * 200):
        limit.ended(n / 1000, rng.choice([0.0005, 0.02]))
    assert limit.limit == 64
