"""When the breaker opens, how it closes, and that nothing storms through it; and what the retry budget lets pass."""

from random import Random

from services.propagation.targets.breaker import CONSECUTIVE, MOST_OPEN_S, PROBES, Breaker
from services.propagation.targets.budget import RetryBudget


def opened(now_s: float = 0.0) -> Breaker:
    breaker = Breaker(Random(1))
    for _ in range(CONSECUTIVE - 1):
        assert not breaker.failed(now_s)
    assert breaker.failed(now_s)
    return breaker


def test_failures_in_a_row_open_it():
    breaker = Breaker(Random(1))
    for _ in range(CONSECUTIVE - 1):
        breaker.failed(0.0)
    breaker.succeeded(0.0)
    assert breaker.closed and breaker.room(0.0) is None
    breaker = opened()
    assert breaker.room(0.5) == 0 and 0.5 < breaker.retry_after_s(0.0) < 1.5


def test_more_than_half_of_many_failing_opens_it_and_a_third_does_not():
    for bad_of_three, opens in ((1, False), (2, True)):
        breaker = Breaker(Random(1))
        for n in range(300):
            if n % 3 < bad_of_three:
                breaker.failed(n / 100)
            else:
                breaker.succeeded(n / 100)
        assert (breaker.opened > 0) is opens


def test_it_is_tried_with_a_few_and_closes_when_all_are_good():
    breaker = opened()
    assert breaker.succeeded(0.1) is False and not breaker.closed  # sent before it opened
    assert breaker.room(2.0) == PROBES
    assert [breaker.succeeded(2.0) for _ in range(PROBES)] == [False] * (PROBES - 1) + [True]
    assert breaker.closed


def test_a_failing_probe_leaves_it_alone_for_longer_up_to_a_bound():
    breaker = opened()
    now_s, waits = 0.0, []
    for _ in range(10):
        now_s += breaker.retry_after_s(now_s)
        assert breaker.failed(now_s)
        assert not breaker.failed(now_s)  # a late one of the same spell
        waits.append(breaker.retry_after_s(now_s))
    assert waits[0] < 3 and all(wait <= 1.25 * MOST_OPEN_S for wait in waits) and waits[-1] >= 0.75 * MOST_OPEN_S


def test_the_budget_is_a_share_of_first_attempts_and_a_few_each_second():
    budget = RetryBudget(share=0.1, min_per_s=5)
    assert sum(budget.retry(0.0) for _ in range(100)) == 5
    assert sum(budget.retry(1.0) for _ in range(100)) == 5
    budget.first(200)
    assert sum(budget.retry(1.0) for _ in range(100)) == 20
    assert sum(budget.retry(60.0) for _ in range(100)) == 5  # a second's worth, however long nobody asked
    assert budget.refused == 100 * 4 - 35


def test_a_budget_of_nothing_lets_nothing_pass():
    budget = RetryBudget(share=0, min_per_s=0)
    budget.first(1000)
    assert not budget.retry(0.0) and not budget.retry(100.0)
