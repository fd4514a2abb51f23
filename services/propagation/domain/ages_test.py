"""How old numbers are held to be: never older than they are, within a life and over lives."""

from random import Random

from services.propagation.domain.ages import KEPT_S, SPAN_S, Ages

SECOND_NS = 1_000_000_000


def test_numbers_of_a_life_are_never_older_than_they_are_and_little_younger():
    seed = Random().randrange(1 << 32)
    print(f"seed {seed}")
    rng = Random(seed)
    ages = Ages([], 0, 0, 0.0)
    given = [0.0, 0.0]  # when each number was given; the first is 1
    now_s = 0.0
    ages.note(1, now_s)
    for _ in range(5_000):
        now_s += rng.choice([0.0, 0.01, 0.3, 5.0])
        given += [now_s] * rng.randrange(3)
        ages.note(len(given) - 1, now_s)
        at_s = now_s - rng.uniform(0, 30)
        before = ages.given_before(at_s)
        assert before == 0 or given[before] <= at_s
        assert before + 1 == len(given) or given[before + 1] > at_s - 2 * SPAN_S
        number = rng.randrange(max(1, len(given) - 20), len(given))
        assert given[number] <= ages.given_by_s(number, now_s) <= given[number] + SPAN_S


def test_what_is_kept_is_bounded():
    ages = Ages([], 0, 0, 0.0)
    for at in range(1, 4 * int(KEPT_S)):
        ages.note(at, float(at))
    assert len(ages._spans) <= KEPT_S / SPAN_S + 4
    assert ages.given_before(4 * KEPT_S - KEPT_S) >= 3 * KEPT_S - 3


def test_the_lives_before_are_known_by_their_ticks():
    ticks = [(10, 100 * SECOND_NS), (20, 101 * SECOND_NS), (30, 110 * SECOND_NS)]
    ages = Ages(ticks, 1 << 20, 120 * SECOND_NS, 1000.0)
    assert ages.given_before(1000.0 - 30) == 9
    assert ages.given_before(1000.0 - 18.5) == 19
    assert ages.given_before(1000.0 - 15) == 29
    assert ages.given_before(1000.0 - 5) == 1 << 20
    assert ages.given_by_s(25, 1000.0) == 1000.0 - 19 + SPAN_S


def test_a_wall_clock_that_was_set_back_makes_nothing_older():
    ages = Ages([(10, 500 * SECOND_NS), (20, 90 * SECOND_NS)], 40, 100 * SECOND_NS, 1000.0)
    assert ages.given_before(1000.0) == 9  # numbers from 10 on seem to be given now
    ages.note(50, 1002.0)
    assert ages.given_before(1001.5) == 40
