"""Replay of any beginning of the log is the store as it was then; what is torn, doubled, late, missing or foreign in a
log is told from what belongs there."""

import asyncio
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from services.propagation.conformance.harness import SETTINGS, bytes16, change, csr, open_on, u32, version
from services.propagation.store.embedded import EmbeddedStore
from services.propagation.store.interface import InputChange
from services.propagation.store.logged import packed_commit, records
from services.propagation.store.logged.memory_log import MemoryLog, NoLongerOwner
from services.propagation.store.logged.packed_commit import CommitDamaged
from services.propagation.store.logged.place import KIND, read_place
from services.propagation.store.logged.records import Assembly, LogDamaged, Position, commit_records, owner_record
from services.propagation.store.logged.replica import Diverged, Replica
from services.propagation.store.memory import MemoryStore

# An example is small as it is; making it smaller took minutes.
QUICK = (Phase.explicit, Phase.reuse, Phase.generate)
ASPECTS = ("content", "existence", "title", "own")
RESOURCES = 12
owners = st.integers(0, RESOURCES - 1)
sets = st.dictionaries(owners, st.lists(owners, max_size=4), max_size=5)
commits = st.lists(
    st.fixed_dictionaries(
        {
            "names": st.lists(st.integers(0, 60), max_size=6),
            "outputs": st.lists(st.tuples(st.sampled_from(["html", "other"]), st.integers(0, 60)), max_size=2),
            "views": st.lists(st.sampled_from(["html", "search", "other"]), max_size=2),
            "aspects": st.lists(st.tuples(owners, st.sampled_from(ASPECTS)), max_size=4),
            "edges": st.lists(st.tuples(st.sampled_from([None, False, True]), sets), max_size=2),
            "rendered": st.dictionaries(owners, st.booleans(), max_size=4),
            "changed": st.lists(owners, max_size=3, unique=True),
            "changed_each": st.lists(owners, max_size=3, unique=True),
            "put": st.dictionaries(st.binary(max_size=2), st.binary(max_size=3), max_size=3),
            "prefix": st.none() | st.binary(max_size=1),
            "what": st.sampled_from(["write", "write", "write", "drop", "write behind the next"]),
        }
    ),
    min_size=1,
    max_size=8,
)


def facts(store):
    """All that a store answers, but for how far it is in its log."""
    every = np.arange(store.resource_count, dtype=np.uint32)
    names = {}
    for number in every.tolist():
        try:
            names[number] = store.resource_names(u32(number))[0]
        except LookupError:
            names[number] = None  # a hole
    inputs = {one: part for number in names for part in [store.inputs_of_resource(number)] for one, _ in part}
    known = np.array(sorted(inputs), np.uint32)
    per_view = {
        name: (
            view,
            [one.tolist() for one in store.dependencies(view, every)],
            store.rendered_at(view, every).tolist(),
            store.output_changed_at(view, every).tolist(),
            store.hashes(view, every).tobytes(),
            sorted(store.outputs_with_dependents(view)),
        )
        for name, view in store.views.items()
    }
    reverse = {one: {view: sorted(found) for view, found in store.dependents(one).items()} for one in inputs}
    kept = [list(store.records(kind)) for kind in ("kind", "other")]
    return (
        names,
        inputs,
        store.input_parts(known),
        per_view,
        reverse,
        store.input_changes(known),
        kept,
        store.edge_count,
    )


def gather(commit, told, sequence):
    """Fills a commit as an example says."""
    commit.intern_views(["first", *told["views"]])
    commit.intern_resources([b"r%d" % at for at in [*range(RESOURCES), *told["names"]]])
    commit.intern_resources([b"view/%s/r%d" % (view.encode(), at) for view, at in told["outputs"]])
    inputs = commit.intern_named_inputs([b"r%d" % at for at in range(RESOURCES)], "content")
    for resource, aspect in told["aspects"]:
        commit.intern_inputs(commit.intern_resources([b"r%d" % resource]), [aspect])
    numbers = commit.intern_resources([b"r%d" % at for at in range(RESOURCES)])
    for remove, named in told["edges"]:
        dependents, counts, which = csr(named)
        if remove is None:
            commit.replace_dependencies(0, numbers[dependents], counts, inputs[which])
        else:
            commit.change_dependencies(0, numbers[dependents], counts, inputs[which], remove=remove)
    rendered = np.array(list(told["rendered"]), np.uint32)
    hashes = bytes16([version(sequence * 100 + at) for at in told["rendered"]])
    marks = np.array(list(told["rendered"].values()), np.bool_)
    commit.complete(0, numbers[rendered], sequence, hashes, marks, sequence + 1)
    commit.change_inputs(inputs[np.array(told["changed"], np.uint32)], change(sequence + 2))
    each = [InputChange(sequence + 3, version(at), at) for at in told["changed_each"]]
    commit.change_each(inputs[np.array(told["changed_each"], np.uint32)], each)
    for key, value in told["put"].items():
        commit.put_record("kind", key, value)
        commit.put_record("other", key, value)
    if told["prefix"] is not None:
        commit.delete_records("kind", told["prefix"])
    for key in list(told["put"])[:1]:
        commit.delete_record("other", key)


async def play(store, history):
    """Gathers and writes the commits, some of them never, some behind the one gathered after them; answers (position,
    facts) after each write."""
    seen = [(store.position, facts(store))]

    def write(commit):
        store.write(commit)
        seen.append((store.position, facts(store)))

    for at, told in enumerate(history):
        commit = store.begin()
        if told["what"] == "write behind the next":
            # What only numbers may wait: edges may not.
            commit.intern_resources([b"waits%d" % at, b"view/html/waits%d" % at])
            commit.put_record("kind", b"waits", b"%d" % at)
            other = store.begin()
            gather(other, told, 10 * at)
            write(other)
        else:
            gather(commit, told, 10 * at)
        if told["what"] != "drop":
            write(commit)
    return seen


# Opening a directory is what takes long.
@pytest.mark.parametrize(("kind", "examples"), [("memory", 60), ("embedded", 12)])
def test_replay_of_any_beginning_is_the_store_at_that_point(kind, examples):
    @settings(max_examples=examples, phases=QUICK, deadline=None, suppress_health_check=list(HealthCheck))
    @given(commits, st.data())
    def check(history, data):
        log = MemoryLog()

        def opened(directory, name):
            if kind == "memory":
                return MemoryStore()
            return EmbeddedStore.open(Path(directory) / name, settings=SETTINGS, cache_bytes=4_096)

        async def main(directory):
            store = open_on(opened(directory, "first"), log)
            seen = dict(await play(store, history))
            await store.close()
            end = data.draw(st.integers(1, len(log.records)), "the log is cut behind")
            below = opened(directory, "second")
            replica = Replica(below)
            for offset, record in enumerate(log.records[:end]):
                replica.take(offset, record)
            assert facts(below) == seen[replica.caught_up()]
            # The rest, by another life of the same store, that knows its place.
            if kind == "embedded":
                await below.close()
                below = opened(directory, "second")
            later = Replica(below)
            assert later.begins_at == end - 1
            for offset in range(later.begins_at, len(log.records)):
                later.take(offset, log.records[offset])
            assert facts(below) == list(seen.values())[-1]
            await below.close()

        with tempfile.TemporaryDirectory(prefix="replay-") as directory:
            asyncio.run(main(directory))

    check()


def test_a_former_owner_appends_nothing_more_and_applies_nothing():
    async def main():
        log = MemoryLog(automatic=False)
        first = open_on(MemoryStore(), log)
        one = first.begin()
        one.put_record("kind", b"a", b"1")
        durable = first.write(one)
        log.owner.sync()
        await durable
        lost = first.begin()
        lost.put_record("kind", b"b", b"2")
        in_doubt = first.write(lost)
        late = first.begin()
        late.put_record("kind", b"c", b"3")
        second = open_on(MemoryStore(), log)
        assert second.position == Position(2, 1)
        assert list(second.records("kind")) == [(b"a", b"1")]
        with pytest.raises(NoLongerOwner):
            await in_doubt
        with pytest.raises(NoLongerOwner):
            first.write(late)
        assert first.get_record("kind", b"c") is None, "nothing of it is applied"

    asyncio.run(main())


def test_a_store_that_is_ahead_of_its_log_is_told_apart():
    """Its owner was killed before the log had its last commit: by the log's end, and by the next owner's word."""

    async def main():
        log, below = MemoryLog(automatic=False), MemoryStore()
        store = open_on(below, log)
        for key in (b"a", b"b"):
            commit = store.begin()
            commit.put_record("kind", key, b"")
            store.write(commit)
            if key == b"a":
                log.owner.sync()
        assert read_place(below).position == Position(1, 2)
        ended = Replica(below)
        for offset in range(ended.begins_at, len(log.records)):
            ended.take(offset, log.records[offset])
        with pytest.raises(Diverged):
            ended.caught_up()
        open_on(MemoryStore(), log)
        follows = Replica(below)
        with pytest.raises(Diverged):
            for offset in range(follows.begins_at, len(log.records)):
                follows.take(offset, log.records[offset])
        # A log that was made anew under the same name.
        with pytest.raises(Diverged):
            follows = Replica(below)
            follows.take(follows.begins_at, commit_records(Position(1, 7), b"other")[0])

    asyncio.run(main())


def test_a_commit_of_many_pieces_is_applied_with_its_last_one(monkeypatch):
    monkeypatch.setattr(records, "PIECE_BYTES", 100)

    async def main():
        log = MemoryLog()
        store = open_on(MemoryStore(), log)
        commit = store.begin()
        for at in range(40):
            commit.put_record("kind", b"%02d" % at, bytes(20))
        await store.write(commit)
        assert len(log.records) > 10
        for end in range(1, len(log.records) + 1):
            below = MemoryStore()
            replica = Replica(below)
            for offset in range(end):
                replica.take(offset, log.records[offset])
            whole = end == len(log.records)
            assert len(list(below.records("kind"))) == (40 if whole else 0)
            assert list(below.records(KIND)), "it knows its place"

    asyncio.run(main())


def pieces(number, epoch=1, count=2):
    whole = b"".join(commit_records(Position(epoch, number), b"x" * count))
    assert len(whole) > count
    return commit_records(Position(epoch, number), b"x" * count)


def test_what_comes_again_or_late_is_recognised_and_what_is_missing_is_refused(monkeypatch):
    monkeypatch.setattr(records, "PIECE_BYTES", 1)
    first, second, third = pieces(1), pieces(2), pieces(3)
    own, next_own = owner_record(Position(1, 0)), owner_record(Position(2, 2))

    def outcome(*given):
        assembly = Assembly(Position(0, 0))
        return [place.number for record in given for place, packed in assembly.take(record, "it") if packed]

    assert outcome(own, *first, *second) == [1, 2]
    assert outcome(own, own, *first, *first, first[0], *second, *first, *second) == [1, 2]
    assert outcome(own, first[0], first[0], first[1], *second) == [1, 2], "a piece that comes again"
    late = pieces(3, epoch=1)
    assert outcome(own, *first, *second, late[0], next_own, *late, *pieces(3, epoch=2)) == [1, 2, 3], (
        "of a former owner"
    )
    for wrong, says in (
        ([own, *second], "commits are missing"),
        ([own, *first, *third], "commits are missing"),
        ([own, first[1]], "piece 0 is missing"),
        ([*first], "never said"),
        ([own, *first, next_own], "commits are missing"),
        ([own, *first, *pieces(2, epoch=2)], "never said"),
        ([b"{}"], "something else writes"),
        ([own[:-1] + bytes([own[-1] ^ 1])], "checksum"),
        ([b""], "something else writes"),
    ):
        with pytest.raises(LogDamaged, match=says):
            outcome(*wrong)


@given(st.binary(max_size=80) | st.binary(max_size=80).map(lambda tail: bytes([packed_commit.VERSION]) + tail))
@settings(max_examples=300, deadline=None)
def test_bytes_that_are_no_commit_are_refused_or_taken_whole(junk):
    store = MemoryStore()
    try:
        packed_commit.replay(junk, store.begin())
    except CommitDamaged as error:
        assert "format" in error.message
    assert store.resource_count == 0 and not store.views, "nothing is applied before it is written"


def test_every_flipped_bit_of_a_record_is_noticed():
    [record] = commit_records(Position(3, 9), b"some commit")
    for at in range(len(record) * 8):
        flipped = bytearray(record)
        flipped[at // 8] ^= 1 << at % 8
        with pytest.raises(LogDamaged):
            records.parse(bytes(flipped), "it")
