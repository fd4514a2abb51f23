"""Where a resource belongs is kept for ever, and near its outputs; names are spread evenly."""

from collections import Counter

import pytest

from services.propagation.domain.partition import WHOLE, Part, shard_of

KEPT = {
    "enwiki/page/Algorithm": (0, 0, 0, 7),
    "w/page/1": (0, 0, 0, 6),
    "w/page/2": (1, 2, 3, 58),
    "dewiki/page/Gödel": (1, 2, 3, 56),
    "a": (1, 2, 3, 62),
}


@pytest.mark.parametrize("name", KEPT)
def test_the_shard_of_a_name_never_changes(name):
    assert tuple(shard_of(name, shards) for shards in (2, 3, 4, 64)) == KEPT[name]


def test_outputs_are_where_their_resource_is():
    for at in range(1_000):
        name = f"w/page/{at}"
        for output in (f"view/html/{name}", f"view/summary/view/html/{name}"):
            assert shard_of(output, 7) == shard_of(name, 7)
    # What only looks like an output is a name as any other.
    assert {shard_of(f"view/{at}", 64) for at in range(2_000)} == set(range(64))


@pytest.mark.parametrize("pattern", ["w/page/{:06}", "enwiki/page/Title {}", "p{}", "{}/x"])
@pytest.mark.parametrize("shards", [2, 3, 4, 8])
def test_names_that_count_up_are_spread(pattern, shards):
    found = Counter(shard_of(pattern.format(at), shards) for at in range(20_000))
    assert len(found) == shards
    assert max(found.values()) < 1.1 * 20_000 / shards


def test_a_part_has_its_own_and_the_whole_has_all():
    parts = [Part(number, 5) for number in range(5)]
    for at in range(500):
        assert sum(part.has(f"x{at}") for part in parts) == 1
        assert WHOLE.has(f"x{at}")
