"""Keys sort as the values of their types do, none begins another, and descending ones sort the other way."""

import datetime
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.restbase import kinds, rows, schema
from tests.restbase.refusals import Refused

TIMES = st.datetimes(datetime.datetime(1970, 1, 1), datetime.datetime(2100, 1, 1), timezones=st.just(datetime.UTC))
VALUES = {
    "string": st.text(alphabet=st.characters(exclude_categories=["Cs"])),
    "int": st.integers(-(2**31), 2**31 - 1),
    "varint": st.integers(-(2**70), 2**70),
    "double": st.floats(allow_nan=False, allow_infinity=False).map(lambda one: one + 0.0),
    "boolean": st.booleans(),
    "timestamp": TIMES.map(lambda one: one.isoformat(timespec="milliseconds")),
}


@pytest.mark.parametrize("kind", sorted(VALUES))
def test_keys_sort_as_values_do(kind):
    by = {"string": str.encode, "timestamp": datetime.datetime.fromisoformat}.get(kind, lambda one: one)

    @given(VALUES[kind], VALUES[kind])
    def check(one, other):
        keys = [kinds.key("a", kind, value) for value in (one, other)]
        assert (keys[0] < keys[1]) == (by(one) < by(other)) and (keys[0] == keys[1]) == (by(one) == by(other))
        if keys[0] != keys[1]:
            assert not keys[0].startswith(keys[1]) and not keys[1].startswith(keys[0])
        turned = [kinds.key("a", kind, value, descending=True) for value in (one, other)]
        assert (turned[0] < turned[1]) == (keys[0] > keys[1])

    check()


@given(st.lists(st.uuids(version=1), min_size=2, max_size=2))
def test_time_uuids_sort_by_their_time(pair):
    one, other = pair
    keys = [kinds.key("a", "timeuuid", str(value)) for value in pair]
    if one.time != other.time:
        assert (keys[0] < keys[1]) == (one.time < other.time)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("int", 2**31),
        ("int", True),
        ("string", 1),
        ("timeuuid", str(uuid.UUID(int=5, version=4))),
        ("timestamp", "2014-11-14T19:10:40"),
        ("decimal", "1.2"),
        ("json", {}),
        ("set<int>", [1]),
        ("string", None),
        ("varint", 2**2000),
    ],
)
def test_what_cannot_be_part_of_a_key_is_refused(kind, value):
    with pytest.raises(Refused):
        kinds.key("a", kind, value)


@given(st.lists(st.integers(-9, 9), max_size=12), st.booleans(), st.integers(-9, 9))
def test_comparisons_leave_the_rows_that_they_name(values, descending, at):
    table = schema.read(
        {
            "attributes": {"k": "string", "n": "int"},
            "index": [
                {"attribute": "k", "type": "hash"},
                {"attribute": "n", "type": "range", "order": "desc" if descending else "asc"},
            ],
        }
    )
    there = {value: rows.row(table, {"k": "a", "n": value}) for value in values}
    for how, holds in {
        "lt": int.__lt__,
        "le": int.__le__,
        "gt": int.__gt__,
        "ge": int.__ge__,
        "eq": int.__eq__,
    }.items():
        span = rows.span(table, {"k": "a", "n": {how: at}})
        assert {n for n, key in there.items() if span.start <= key < span.end} == {n for n in values if holds(n, at)}
