"""The pure parts, each against whatever a caller may think of."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.clock.virtual import VirtualClock
from libs.errors.errors import InvalidArgument
from services.session.domain import policy
from services.session.domain.epochs import is_below, merged, raised
from services.session.domain.errors import DataTooLarge, GuessLimit, PolicyRefused, VersionMismatch
from services.session.domain.guesses import Guesses, GuessLimits
from services.session.domain.model import Epoch, Session
from services.session.domain.operations import Limits, Operation, Totals, Value, apply, check
from services.session.domain.policy import DAY, HOUR, MINUTE, SECOND, Caller, Policy, Timeouts
from services.session.domain.steady import SteadyClock
from services.session.domain.validity import State, ends_us, judge

KEYS = st.sampled_from(["a", "b", "c"])
OPERATIONS = st.lists(
    st.one_of(
        st.builds(Operation, KEYS, set=st.binary(max_size=8), if_version=st.none() | st.integers(0, 3)),
        st.builds(Operation, KEYS, add=st.integers(-9, 9)),
        st.builds(Operation, KEYS),
        st.builds(Operation, KEYS, set=st.binary(max_size=8), once=st.just(True)),
    ),
    max_size=3,
    unique_by=lambda o: o.key,
)


@given(st.lists(OPERATIONS, max_size=12))
def test_versions_never_mean_two_values_and_totals_add_up(history):
    values, totals, meant = {}, Totals(0, 0, 0), {}
    for operations in history:
        try:
            changes = apply(operations, values, totals, Limits(2, 20))
        except (VersionMismatch, DataTooLarge, InvalidArgument):
            continue
        totals = changes.totals
        for key, value in changes.put.items():
            assert (key, value.version) not in meant
            assert value.version > max((v for k, v in meant if k == key), default=0)
            meant[key, value.version] = value.value
        values = {k: v for k, v in values.items() if k not in changes.remove} | changes.put
        assert totals.keys == len(values) <= 2
        assert totals.size_bytes == sum(len(k) + len(v.value) for k, v in values.items()) <= 20


@pytest.mark.parametrize(
    ("value", "add"), [(b"x", 1), (b"01", 1), (b"", 1), (b"1.5", 1), (b"%d" % (2**63 - 1), 1), (b"%d" % -(2**63), -1)]
)
def test_what_cannot_be_added_to(value, add):
    with pytest.raises(InvalidArgument):
        apply([Operation("n", add=add)], {"n": Value(value, 1)}, Totals(1, 2, 0), Limits(9, 99))


@pytest.mark.parametrize(
    "operations",
    [
        [],
        [Operation("k")] * 2,
        [Operation("")],
        [Operation("*")],
        [Operation("x" * 129)],
        [Operation("a\nb")],
        [Operation("k", if_version=-1)],
        [Operation(f"k{i}") for i in range(65)],
    ],
)
def test_operations_that_no_state_could_make_right(operations):
    with pytest.raises(InvalidArgument):
        check(operations)


EPOCHS = st.dictionaries(st.sampled_from(["east", "west", "north"]), st.integers(1, 5)).map(
    lambda d: Epoch(tuple(sorted(d.items())), sum(d.values()))
)


@given(EPOCHS, EPOCHS, st.sampled_from(["east", "west"]))
def test_no_data_centre_undoes_anothers_revocation(one, other, datacentre):
    stamp = one.counters
    after = raised(one, datacentre, 99)
    assert is_below(stamp, after) and not is_below(after.counters, after)
    both = merged(after, other)
    assert is_below(stamp, both) and merged(both, one) == both and merged(other, after) == both


def test_policies_beyond_the_ceilings_need_a_reason():
    for level, (idle, absolute) in {1: (1, 31 * DAY), 2: (1, DAY + 1), 3: (16 * MINUTE, 12 * HOUR)}.items():
        timeouts = list(policy.CEILINGS)
        timeouts[level - 1] = Timeouts(max(idle, SECOND), absolute)
        with pytest.raises(PolicyRefused, match=f"level {level}"):
            policy.check("web", Policy(timeouts=tuple(timeouts)))
        policy.check("web", Policy(timeouts=tuple(timeouts), justification="kiosks without keyboards"))


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("Web", {}),
        ("", {}),
        ("1a", {}),
        ("a" * 33, {}),
        ("web", {"rotation_grace_us": 11 * MINUTE}),
        ("web", {"rotation_interval_us": 0}),
        ("web", {"touch_interval_us": 0}),
        ("web", {"max_sessions_per_subject": -1}),
        ("web", {"max_data_bytes": 2 << 20}),
        ("web", {"max_anonymous": -1}),
        ("web", {"justification": "x" * 1025}),
        ("web", {"callers": (Caller("", ("*",)),)}),
        ("web", {"callers": (Caller("a*b", ("*",)),)}),
        ("web", {"callers": (Caller("a", ()),)}),
        ("web", {"timeouts": (Timeouts(DAY, HOUR), *policy.CEILINGS[1:])}),
        ("web", {"timeouts": (Timeouts(0, 0), *policy.CEILINGS[1:])}),
    ],
)
def test_policies_that_may_not_be(name, changes):
    with pytest.raises(PolicyRefused) as caught:
        policy.check(name, Policy(**changes))
    assert caught.value.violations


def test_a_policy_survives_its_store():
    given_policy = Policy(
        timeouts=(Timeouts(1, 2), Timeouts(3, 4), Timeouts(5, 6)),
        callers=(Caller("spiffe://x/*", ("Validate",), ("a", "b")),),
        limit=policy.Limit.REJECT,
        justification="é",
    )
    assert policy.decode(policy.encode(given_policy)) == given_policy


def test_ses_19_a_caller_sees_what_its_rules_say():
    p = Policy(callers=(Caller("spiffe://x/web*", ("Validate",), ("a",)), Caller("spiffe://x/cart", ("*",))))
    assert p.allows("spiffe://x/web-1", "Validate") and not p.allows("spiffe://x/web-1", "Revoke")
    assert p.allows("spiffe://x/cart", "Revoke") and not p.allows("spiffe://x/cart2", "Validate")
    assert p.visible("spiffe://x/web-1", "Validate", "a") and not p.visible("spiffe://x/web-1", "Validate", "b")
    assert p.visible("spiffe://x/cart", "Validate", "b") and not p.visible("stranger", "Validate", "a")


def session(**changes):
    plain = Session(
        realm="web", handle="h", revision=1, home="local", subject=b"s" * 32, level=2, methods=(), auth_us=DAY,
        created_us=DAY, active_us=DAY, ends_us=2 * DAY - HOUR, idle_us=HOUR, stamp=(), subject_stamp=(), tokens=(),
    )  # fmt: skip
    return replace(plain, **changes)


@given(st.integers(0, 10 * DAY), st.integers(0, 10 * DAY), st.integers(1, 3))
def test_no_activity_leads_past_the_absolute_end(active_us, now_us, level):
    one = session(active_us=active_us, level=level)
    absolute_us, idle_us = ends_us(one, Policy())
    assert idle_us <= absolute_us <= one.ends_us
    verdict = judge(one, Policy(), Epoch(), Epoch(), None, now_us)
    assert not verdict.live or now_us < one.ends_us


def test_a_shorter_policy_ends_what_is_there_and_a_longer_one_moves_nothing():
    one = session(active_us=DAY, idle_us=HOUR)
    short, long = Timeouts(MINUTE, 30 * MINUTE), Timeouts(30 * DAY, 30 * DAY)
    assert ends_us(one, Policy(timeouts=(short,) * 3)) == (DAY + 30 * MINUTE, DAY + MINUTE)
    assert ends_us(one, Policy(timeouts=(long,) * 3)) == (one.ends_us, DAY + HOUR)


def test_a_revocation_outweighs_an_expiry():
    epoch = Epoch((("east", 1),), 5)
    assert judge(session(), Policy(), epoch, epoch, None, 99 * DAY) == (State.SUBJECT_REVOKED, 5)
    assert judge(session(), Policy(), epoch, Epoch(), None, 0) == (State.REALM_REVOKED, 5)
    assert judge(None, Policy(), epoch, epoch, None, 0).state is State.ABSENT


@given(st.lists(st.tuples(st.integers(-(10**13), 10**13), st.integers(0, 10**4))))
def test_time_never_goes_back_nor_stands_still(steps):
    class Clock(VirtualClock):
        pass

    clock = Clock()
    steady = SteadyClock(clock)
    last = steady.now_us()
    for jump_us, elapsed_ms in steps:
        clock.set_wall(max(0, clock.time_ns() + jump_us * 1000))
        clock._elapsed_ns += elapsed_ms * 10**6
        now = steady.now_us()
        assert now >= last + elapsed_ms * 1000 - 1
        last = now


def test_ses_20_only_failures_are_limited_and_a_stranger_locks_nobody_out():
    now = [0.0]
    guesses = Guesses(GuessLimits(per_caller=100, per_address=3, max_addresses=2), lambda: now[0], bytes)
    for _ in range(3):
        guesses.failed("app", "10.0.0.1")
    with pytest.raises(GuessLimit) as caught:
        guesses.failed("app", "10.0.0.1")
    assert 1 <= caught.value.retry_after_s <= 60 and "10.0.0.1" not in str(vars(guesses))
    guesses.failed("app", "10.0.0.2")
    for i in range(3):  # the table is full: strangers share a place
        guesses.failed("app", f"10.0.1.{i}")
    with pytest.raises(GuessLimit):
        guesses.failed("app", "10.0.2.1")
    now[0] = 61.0
    guesses.failed("app", "10.0.0.1")
    for _ in range(99):
        guesses.failed("app", "")
    with pytest.raises(GuessLimit):
        guesses.failed("app", "")
    guesses.failed("other", "")
