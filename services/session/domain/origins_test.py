"""What a server believes of other data centres: by their own words, their clocks, and how much of them is here."""

import pytest

from services.session.domain.errors import DatacentreFenced, Resynchronising, Stale
from services.session.domain.origins import MAX_AHEAD_US, Listening
from services.session.domain.origins_model import Fence, Heard
from services.session.domain.policy import SECOND, Partition, Policy

CLOSED = Policy(on_partition=Partition.FAIL_CLOSED, revocation_bound_us=5 * SECOND)
LOCAL = Policy(on_partition=Partition.SERVE_LOCAL, revocation_bound_us=5 * SECOND)
START = 1_000 * SECOND


def heard(at_us, *behind, fences=None, origin="west"):
    return Heard(origin, at_us, frozenset(behind), fences or {})


def test_alone_nothing_is_waited_for():
    Listening("east").check("web", CLOSED, START)
    assert Listening("east").staleness_us("web", START) == 0


@pytest.mark.parametrize("policy", [CLOSED, LOCAL])
def test_who_was_never_heard_counts_as_away(policy):
    listening = Listening("east", ["west"])
    if policy is CLOSED:
        with pytest.raises(Stale):
            listening.check("web", policy, START)
    else:
        listening.check("web", policy, START)


def test_fresh_until_the_bound_and_not_after_it():
    listening = Listening("east", ["west"])
    listening.take(heard(START), START)
    listening.check("web", CLOSED, START + 5 * SECOND)
    assert listening.staleness_us("web", START + 5 * SECOND) == 5 * SECOND
    with pytest.raises(Stale):
        listening.check("web", CLOSED, START + 5 * SECOND + 1)
    listening.check("web", LOCAL, START + 60 * SECOND)


def test_a_realm_that_is_behind_is_as_old_as_when_it_was_whole_and_the_others_are_not():
    listening = Listening("east", ["west"])
    listening.take(heard(START), START)
    for second in (3, 6, 9):
        listening.take(heard(START + second * SECOND, "web"), START + second * SECOND)
    now_us = START + 9 * SECOND
    assert listening.whole_us("west", "web") == START and listening.whole_us("west", "app") == now_us
    with pytest.raises(Stale):
        listening.check("web", CLOSED, now_us)
    with pytest.raises(Resynchronising):
        listening.check("web", LOCAL, now_us)
    listening.check("app", CLOSED, now_us)
    listening.take(heard(now_us), now_us)
    listening.check("web", CLOSED, now_us)


def test_a_word_of_before_does_not_make_older_and_one_from_a_clock_ahead_is_not_taken():
    listening = Listening("east", ["west"])
    listening.take(heard(START), START)
    listening.take(heard(START - 60 * SECOND), START)
    assert listening.whole_us("west", "web") == START
    listening.take(heard(START + MAX_AHEAD_US + 1), START)
    assert listening.apart == {"west"} and listening.whole_us("west", "web") == START
    listening.take(heard(START + MAX_AHEAD_US), START)
    assert not listening.apart and listening.whole_us("west", "web") == START + MAX_AHEAD_US


def test_of_two_words_about_a_fence_the_later_one_counts():
    listening = Listening("east", ["west", "north"])
    listening.take(heard(START, origin="north"), START)
    listening.take(heard(START, fences={"west": Fence(START, True)}, origin="north"), START)
    listening.take(heard(START + 1, fences={"west": Fence(START - 1, False)}, origin="north"), START)
    assert listening.is_shut("west")
    listening.check("web", CLOSED, START)  # nobody waits for it
    listening.shut({"west": Fence(START + 1, False), "east": Fence(START, True)})
    with pytest.raises(DatacentreFenced):
        listening.check("web", LOCAL, START)


BOUND_US, HALF_US = 5 * SECOND, 5 * SECOND // 2


def believes(listening, now_us, **whole):
    return listening.is_as_whole("web", whole, BOUND_US, HALF_US, now_us)


def test_ses_11_what_was_read_answers_while_nothing_older_than_the_bound_is_missing_in_it():
    listening = Listening("east", ["north", "west"])
    assert listening.wholeness("web") == {"north": 0, "west": 0}
    for origin in listening.others:
        listening.take(heard(START, origin=origin), START)
    assert listening.wholeness("web") == {"north": START, "west": START}
    assert believes(listening, START, north=START, west=START - HALF_US)
    assert not believes(listening, START, north=START, west=START - HALF_US - 1), "so far behind its reader"
    assert not believes(listening, START, north=START), "nothing is known of the west"
    # As late as may be: the reader is all but out of its bound, and so is what was read.
    late_us = START + BOUND_US
    assert believes(listening, late_us, north=START, west=START)
    assert not believes(listening, late_us, north=START, west=START - 1)


def test_what_was_read_will_do_where_its_reader_knows_no_more_and_not_when_it_does():
    listening = Listening("east", ["north", "west"])
    for origin in listening.others:
        listening.take(heard(START, origin=origin), START)
    now_us = START + 60 * SECOND
    listening.take(heard(now_us, origin="north"), now_us)
    assert believes(listening, now_us, north=now_us, west=START), "both have not heard the west"
    assert not believes(listening, now_us, north=now_us, west=START - 1)
    assert not believes(listening, now_us, north=START, west=START), "and both of them the north"
    listening.take(heard(now_us, origin="west"), now_us)
    assert not believes(listening, now_us, north=now_us, west=START)
    # One that is shut out is not waited for, and let in again is asked of all that was read meanwhile.
    listening.shut({"west": Fence(1, True)})
    assert believes(listening, now_us, north=now_us)
    listening.shut({"west": Fence(2, False)})
    assert not believes(listening, now_us, north=now_us)


def test_a_realm_that_is_behind_is_as_whole_as_it_was():
    listening = Listening("east", ["west"])
    listening.take(heard(START), START)
    listening.take(heard(START + SECOND, "web"), START + SECOND)
    assert listening.wholeness("web") == {"west": START} and listening.wholeness("app") == {"west": START + SECOND}
