"""The digest of a body tells bodies apart, and default expiries are the same for each retry."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.storage.domain.commands import body_digest, put_digest, put_digests, with_default_ttl
from services.storage.domain.model import ALL, Condition, ConditionKind, Delete, Put, Selection, WriteToken

texts = st.text(max_size=5)
keys = st.binary(max_size=3)
conditions = st.none() | st.builds(Condition, st.sampled_from(ConditionKind), st.binary(max_size=2))
pairs = st.lists(st.tuples(texts, texts), max_size=2).map(tuple)
# An upload is told from a put by the digest that stands for its value: ``chunked`` is no part of a body.
puts = st.builds(Put, keys, st.binary(max_size=3), texts, pairs, st.integers(0, 3), conditions, st.just(False))
selections = (
    st.just(ALL)
    | st.lists(keys, max_size=2).map(lambda some: Selection(tuple(some)))
    | st.tuples(keys, st.none() | keys.filter(bool)).map(lambda ends: Selection(None, *ends))
)
bodies = st.tuples(
    st.lists(puts, max_size=2).map(tuple),
    st.lists(st.builds(Delete, selections, conditions), max_size=2).map(tuple),
    conditions,
    st.dictionaries(texts, texts, max_size=2),
)


@given(puts)
def test_one_put_has_one_digest(put: Put) -> None:
    assert put_digest(put) == body_digest((put,), (), None, None)


@given(puts, st.lists(st.binary(max_size=3) | st.binary(min_size=255, max_size=258), max_size=4))
def test_of_puts_that_are_alike_each_has_its_own(pattern: Put, values: list[bytes]) -> None:
    assert put_digests(pattern, values) == [put_digest(pattern._replace(value=value)) for value in values]


@given(bodies, bodies)
def test_different_bodies_have_different_digests(one: Any, other: Any) -> None:
    assert (body_digest(*one) == body_digest(*other)) is (_meaning(one) == _meaning(other))


def _meaning(body: Any) -> Any:
    """What of a body counts: of a selection by keys, the keys alone; of annotations, the pairs."""
    puts, deletes, condition, notes = body
    deletes = tuple(
        (d.condition, d.selection.keys if d.selection.keys is not None else (d.selection.start, d.selection.end))
        for d in deletes
    )
    return puts, deletes, condition, tuple(sorted(notes.items()))


@given(st.binary(min_size=250, max_size=300), st.integers(0), st.integers(1, 255), st.integers(0, 3))
def test_one_byte_more_less_or_other_makes_another_body(value: bytes, place: int, other: int, how: int) -> None:
    at = place % len(value)
    changed = [
        value[:at] + bytes((value[at] ^ other,)) + value[at + 1 :],
        value[:at] + value[at + 1 :],
        value + b"\0",
        b"\0" + value,
    ][how]
    assert put_digest(Put(b"", changed)) != put_digest(Put(b"", value)) == body_digest([Put(b"", value)], (), None, {})


def test_an_upload_is_told_by_its_checksum() -> None:
    put = Put(b"k", b"manifest")
    digests = {body_digest((put,), (), None, None, content) for content in (None, b"1", b"2")}
    assert len(digests) == 3


@given(st.binary(min_size=16, max_size=16), st.integers(1, 10**15), st.floats(0, 0.5))
def test_a_default_ttl_is_spread_later_and_the_same_for_each_retry(nonce: bytes, ttl_us: int, jitter: float) -> None:
    token = WriteToken(10**15, nonce)
    given_ones = (Put(b"a", b""), Put(b"b", b"", expire_us=5))
    first, second = with_default_ttl(given_ones, token, ttl_us, jitter)
    assert ttl_us <= first.expire_us - token.time_us <= ttl_us * (1 + jitter) + 1
    assert second.expire_us == 5
    assert with_default_ttl(given_ones, token, ttl_us, jitter) == (first, second)
    assert with_default_ttl(given_ones, token, 0, jitter) == given_ones
