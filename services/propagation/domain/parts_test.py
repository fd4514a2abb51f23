"""Parts of the engine by themselves: the sequence clock, the scheduler, a group's circle, names."""

from random import Random

import numpy as np
import pytest
from pyroaring import BitMap

from services.propagation.domain import names
from services.propagation.domain.change import Cause, Change
from services.propagation.domain.errors import ResourceInvalid
from services.propagation.domain.holds import backoff_s
from services.propagation.domain.records import Fanout, RootRecord, State, Tally
from services.propagation.domain.roots import Group, Meter, Root
from services.propagation.domain.scheduler import Scheduler
from services.propagation.domain.sequence import RESERVE, SequenceClock, encode
from services.propagation.domain.views import RetryPolicy
from services.propagation.store.memory import MemoryStore
from services.propagation.store.memory_state import MemoryDisk

SECOND_NS = 1_000_000_000


def record(sequence=7, **more):
    change = Change("id", "w/ü", ("content",), bytes(16), Cause("edit", "me", "r", ("x",)), "lane", 5, (("k", "v"),))
    fields = {"state": State.ACTIVE, "lane": "default", "weight": 1, "revision": 3, "accepted_ns": 9, **more}
    return RootRecord(sequence, change, (1, 2), **fields)


def root(sequence, lane="default", weight=1):
    return Root(record(sequence, lane=lane, weight=weight), Tally(), 0.0)


def test_numbers_rise_over_restarts_also_those_never_written():
    disk = MemoryDisk(automatic=False)
    highest = 0
    for life in range(5):
        store = MemoryStore(disk)
        clock = SequenceClock(store)
        taken = [clock.next(life * SECOND_NS) for _ in range(10)]
        assert taken == sorted(set(taken)) and taken[0] > highest
        commit = store.begin()
        clock.settle(commit)
        store.write(commit)
        if life % 2 == 0:
            disk.sync()
            highest = taken[-1]
        disk.crash()


def test_what_a_refused_write_carried_is_owed_still():
    disk = MemoryDisk()
    before = 0
    for life in range(4):
        store = MemoryStore(disk)
        clock = SequenceClock(store)
        first = clock.next(life * SECOND_NS)
        assert first > before
        clock.settle(store.begin())  # the store refuses this commit: the mark is not written
        before = clock.next(life * SECOND_NS)
        commit = store.begin()
        clock.settle(commit)
        store.write(commit)
        clock.settled()
        assert int.from_bytes(store.get_record("meta", b"high_water"), "big") > before
        assert clock.version(first)[:8] == SequenceClock(MemoryStore(disk)).version(first)[:8]


def test_the_mark_is_raised_before_it_is_reached():
    store = MemoryStore(MemoryDisk())
    clock = SequenceClock(store)
    for _ in range(RESERVE * 2 + 5):
        clock.next(0)
    commit = store.begin()
    clock.settle(commit)
    store.write(commit)
    assert int.from_bytes(store.get_record("meta", b"high_water"), "big") > clock.last


def test_rendered_versions_rise_over_restarts():
    disk = MemoryDisk()
    versions = []
    for life in range(4):
        store = MemoryStore(disk)
        clock = SequenceClock(store)
        sequence = clock.next(life * SECOND_NS)
        versions.append((sequence, clock.version(sequence)))
        commit = store.begin()
        clock.settle(commit)
        store.write(commit)
    assert [version for _, version in versions] == sorted({version for _, version in versions})
    last = SequenceClock(MemoryStore(disk))
    assert [last.version(sequence) for sequence, _ in versions] == [version for _, version in versions]
    assert last.time_ns(versions[2][0]) == 2 * SECOND_NS


def test_records_read_back():
    one = record(state=State.CANCELLED, left=4, reason="why", superseded_by="b", finished_ns=8)
    assert RootRecord.unpack(encode(7), one.pack()) == one
    tally = Tally(10, 5, 3, 1, 2, 4, 1.5)
    assert Tally.unpack(tally.pack()) == tally
    store = MemoryStore(MemoryDisk())
    commit = store.begin()
    Fanout(7, 9, 8, 2, 0xFFFF, True, np.array([3, 4], np.uint32)).put(commit)
    Fanout(7, 10, 8, 1, 1, False, np.array([5], np.uint32), listed=True).put(commit)
    Fanout(8, 11, 8, 1, 1, False, np.array([6], np.uint32)).put(commit)
    store.write(commit)
    first, second = Fanout.of(store, 7)
    assert (first.level, first.own, first.listed, first.inputs.tolist()) == (2, True, False, [3, 4])
    assert (second.view, second.own, second.listed, second.changed_at) == (1, False, True, 8)
    assert Fanout.read(store, 7, 9).noted_at == 9 and Fanout.read(store, 7, 99) is None


def test_a_group_goes_round():
    group = Group(1, 0)
    group.pending = BitMap(range(0, 1000, 3))
    seen = []
    while len(seen) < len(group.pending):
        seen += list(group.next(50, BitMap(seen)))
    assert sorted(seen) == list(group.pending)
    assert list(group.next(3)) == list(group.pending)[:3]


@pytest.mark.parametrize("seed", range(30))
def test_a_group_gives_what_is_free_and_nothing_else(seed):
    rng = Random(seed)
    group = Group(1, 0)
    group.pending = BitMap(rng.sample(range(20_000), 5_000))
    group.cursor = rng.randrange(20_000)
    busy = BitMap(rng.sample(range(20_000), 15_000))
    limit = rng.randrange(1, 3_000)
    free = group.pending - busy
    picked = group.next(limit, busy)
    assert len(picked) == min(limit, len(free)) and picked <= free, f"seed {seed}"


def test_roots_of_a_lane_share_equally_whatever_their_size():
    scheduler = Scheduler({"default": 1})
    roots = [root(at) for at in range(1, 4)]
    for one in roots:
        scheduler.add(one)
    served = dict.fromkeys(roots, 0)

    def take(one, limit):
        served[one] += limit
        return limit

    for _ in range(60):
        scheduler.fill(500, 0.01, take)
    counts = sorted(served.values())
    assert counts[-1] <= 1.1 * counts[0]


def test_weights_of_roots_and_lanes():
    scheduler = Scheduler({"a": 3, "b": 1})
    heavy, light, other = root(1, "a", 4), root(2, "a", 1), root(3, "b")
    for one in (heavy, light, other):
        scheduler.add(one)
    served = dict.fromkeys((heavy, light, other), 0)

    def take(one, limit):
        served[one] += limit
        return limit

    for _ in range(400):
        scheduler.fill(100, 0.01, take)
    assert 3 < served[heavy] / served[light] < 5
    assert 2.5 < (served[heavy] + served[light]) / served[other] < 3.5


def test_nothing_to_take_ends():
    scheduler = Scheduler({"default": 1})
    for at in range(50):
        scheduler.add(root(at))
    scheduler.fill(10, 0.01, lambda one, limit: 0)


def test_a_root_taken_out_is_not_served():
    scheduler = Scheduler({})
    one = root(1, "some-lane")
    scheduler.add(one)
    scheduler.remove(one)
    scheduler.fill(10, 0.01, lambda root, limit: pytest.fail("served"))


def test_backoff_doubles_within_its_bounds():
    rng, policy = Random(1), RetryPolicy(10, 1.0, 30.0)
    for attempts in range(1, 60):
        wait = backoff_s(policy, attempts, 0.0, 0.5, rng)
        full = min(30.0, 2.0 ** min(attempts - 1, 40))
        assert full / 2 <= wait <= full
    assert backoff_s(policy, 1, 12.0, 0.5, rng) == 12.0
    assert backoff_s(policy, 1, 1e12, 0.5, rng) == 86_400.0


def test_the_meter():
    meter = Meter(0.0)
    assert meter.rate_per_s(0.0) == 0
    for at in range(1, 200):
        meter.add(50, at * 1.0)
    assert abs(meter.rate_per_s(199.0) - 50) < 1


@pytest.mark.parametrize("name", ["", "a\0b", "a\tb", "a\x7f", "a\x85", "x" * 1025, "ü" * 513, "\ud800"])
def test_names_that_no_resource_may_have(name):
    with pytest.raises(ResourceInvalid):
        names.check_resource(name, "resource")


def test_names_that_a_resource_may_have():
    for name in ("a", "ü" * 512, "w/page/A b", "日本", "a\u00a0b"):
        assert names.check_resource(name, "resource") == name.encode()
        assert names.split_names(name.encode(), "names") == [name.encode()]
    assert names.split_names(b"", "names") == []


def test_outputs_by_name():
    assert names.output_parts(names.output_name("html", "w/page/A")) == ("html", "w/page/A")
    for name in ("view/html", "view//x", "view/html/", "page/view/html/x"):
        assert names.output_parts(name) is None
