"""Batches of changes: one commit for distinct ones, and the same outcome as one call after the other."""

from services.propagation.domain.change import Cause, Change
from services.propagation.domain.errors import ChangeIdReused, IntakeFull
from services.propagation.domain.publish import Accepted
from services.propagation.domain.shard import Settings
from services.propagation.simulation.world import World


def change(id, resource, version=1, aspects=("content",)):
    return Change(id, resource, aspects, version.to_bytes(16, "big"), Cause("edit", "tester"))


def written(world):
    """Counts the commits of the engine's store from now on."""
    store, count = world.engine.shard.store, []
    write = store.write

    def counting(commit):
        count.append(commit)
        return write(commit)

    store.write = counting
    return count


def state(world):
    """What is pending, by root and place."""
    return {
        root.id: {place: list(group.pending) for place, group in root.groups.items() if group.pending}
        for root in world.engine.shard.roots.values()
    }


def loaded(**settings):
    world = World(settings=Settings(**settings))
    for at in range(20):
        world.pages(3, f"t{at}", prefix=f"page/{at:02}-")
    return world


def test_distinct_changes_are_one_commit_and_have_the_effect_of_single_ones():
    changes = [change(f"c{at}", f"t{at}", aspects=("content", "title")[: 1 + at % 2]) for at in range(20)]
    changes += [change("own", "page/99"), change("nobody", "elsewhere")]
    batch, single = loaded(), loaded()
    commits = written(batch)
    outcomes, durable = batch.engine.publish_all(changes)
    assert durable is not None and len(commits) == 1
    singly = [single.engine.publish(one)[0] for one in changes]
    assert [one.root for one in outcomes] == [one.root for one in singly]
    assert state(batch) == state(single) and len(state(batch)) == 21
    assert batch.record("nobody").state == single.record("nobody").state
    before = state(batch)
    batch.crash(keep=1)
    assert state(batch) == before


def test_each_change_is_refused_for_itself():
    world = loaded()
    world.engine.publish(change("taken", "t0"))
    outcomes, _ = world.engine.publish_all(
        [change("a", "t1"), change("taken", "t2"), change("taken", "t0"), change("b", "t3")]
    )
    assert isinstance(outcomes[1], ChangeIdReused)
    assert [one.root for one in outcomes if isinstance(one, Accepted)] == ["a", "taken", "b"]
    assert [one.repeated for one in outcomes if isinstance(one, Accepted)] == [False, True, False]
    assert state(world).keys() == {"taken", "a", "b"}


def test_changes_of_one_resource_keep_their_order():
    world = loaded()
    commits = written(world)
    outcomes, _ = world.engine.publish_all(
        [change("new", "t1", 2), change("t2", "t2"), change("old", "t1", 1), change("newest", "t1", 3)]
    )
    assert [one.root for one in outcomes] == ["new", "t2", "", "newest"]
    assert [one.sequence for one in outcomes] == sorted(one.sequence for one in outcomes)
    assert world.record("new").superseded_by == "newest"
    assert len(commits) == 3


def test_an_id_repeated_within_a_batch_has_one_effect():
    world = loaded()
    (first, second, other), _ = world.engine.publish_all([change("a", "t1"), change("a", "t1"), change("a", "t2")])
    assert (second.sequence, second.repeated) == (first.sequence, True)
    assert isinstance(other, ChangeIdReused)
    assert list(state(world)) == ["a"]


def test_what_there_is_no_room_for_is_refused_and_the_rest_is_taken():
    world = loaded(max_roots=3)
    outcomes, durable = world.engine.publish_all([change(f"c{at}", f"t{at}") for at in range(5)])
    assert durable is not None
    assert [isinstance(one, IntakeFull) for one in outcomes] == [False, False, False, True, True]
    assert world.drain() == 9
    (later,), _ = world.engine.publish_all([change("c3", "t3")])
    assert later.root == "c3" and not later.repeated


def test_the_bound_of_memory_holds_although_it_is_counted_seldom():
    world = loaded(max_pending_bytes=40)
    outcomes, _ = world.engine.publish_all([change(f"c{at}", f"t{at}") for at in range(20)])
    taken = [one for one in outcomes if isinstance(one, Accepted)]
    assert 40 // 6 <= len(taken) <= 40 // 6 + 1
    assert world.engine.shard.pending_bytes >= 40
