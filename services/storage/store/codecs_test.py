"""Keys keep their order, and everything that is written reads back as it was."""

from hypothesis import given
from hypothesis import strategies as st

from services.storage.domain.decide import RangeTomb
from services.storage.domain.feed import ChangeEvent, ItemChange
from services.storage.store import events, layout, manifest, rows
from services.storage.store.manifest import Manifest
from services.storage.store.memory import MemoryFamily
from services.storage.store.record import StoredRecord

names = st.binary(max_size=6) | st.lists(st.sampled_from([b"\0", b"\1", b"\xff", b"a"])).map(b"".join)
stamps = st.binary(min_size=16, max_size=16)
times = st.integers(0, 1 << 60)
texts = st.text(st.characters(codec="utf-8"), max_size=20)
pairs = st.dictionaries(texts, texts, max_size=3).map(lambda some: tuple(sorted(some.items())))
media_types = st.text(st.characters(codec="ascii", min_codepoint=32, max_codepoint=126), max_size=128)


@given(names, names, names)
def test_escaped_names_keep_their_order_and_end(one: bytes, other: bytes, rest: bytes) -> None:
    first, second = layout.escaped(one), layout.escaped(other)
    assert (first < second) is (one < other)
    assert layout.unescaped(b"12" + first + rest, 2) == (one, 2 + len(first))
    assert one == other or not (first + rest).startswith(second)


@given(stamps, stamps)
def test_inverted_versions_run_backwards(one: bytes, other: bytes) -> None:
    assert (layout.inverted(one) < layout.inverted(other)) is (one > other)
    assert layout.inverted(layout.inverted(one)) == one


@given(stamps, times, times, st.booleans(), media_types, pairs, st.binary(max_size=50))
def test_items(
    version: bytes,
    write_us: int,
    expire_us: int,
    ordered: bool,
    content_type: str,
    attributes: tuple[tuple[str, str], ...],
    value: bytes,
) -> None:
    row = rows.encode(
        version,
        write_us,
        expire_us,
        ordered=ordered,
        content_type=content_type,
        attributes=attributes,
        value=value,
        chunked=False,
    )
    item = rows.decode(b"k", row)
    assert item == (b"k", value, version, write_us, expire_us, content_type, attributes, len(value), False)
    assert rows.decode(b"k", row, omit_value=True) == item._replace(value=b"")
    assert rows.known(row) == (version, expire_us, ordered, False)
    assert rows.raw_value(row) == value and rows.write_time(row) == write_us
    assert rows.is_whole(b"xx" + row, 2) is not bool(expire_us)
    assert not rows.is_dead(row, 0) and rows.is_dead(rows.encode_tomb(version, write_us, ordered=ordered), 0)


@given(stamps, st.integers(0, 1 << 40), st.integers(0, (1 << 32) - 1), st.lists(st.integers(0, 1 << 20), max_size=5))
def test_manifests(upload: bytes, size: int, crc: int, sizes: list[int]) -> None:
    given_one = Manifest(upload, size, crc, tuple(sizes))
    assert manifest.decode(manifest.encode(given_one)) == given_one


changes = st.builds(ItemChange, names, st.booleans(), media_types, st.integers(0, 1 << 40))


@given(
    st.builds(
        ChangeEvent,
        st.binary(min_size=1, max_size=1024),
        stamps,
        st.lists(changes, max_size=4).map(tuple),
        st.integers(0, 1 << 31),
        st.booleans(),
        st.booleans(),
        times,
        pairs,
    )
)
def test_changes(event: ChangeEvent) -> None:
    row = events.encode(event)
    assert events.decode(row) == event
    assert (events.event_version(row), events.event_time(row)) == (event.version, event.time_us)


@given(names, stamps, st.booleans(), times, media_types, st.integers(0, 1 << 20), pairs)
def test_changes_of_one_put(
    record: bytes,
    version: bytes,
    created: bool,
    time_us: int,
    media_type: str,
    size: int,
    notes: tuple[tuple[str, str], ...],
) -> None:
    item = ItemChange(b"", False, media_type, size)
    event = ChangeEvent(record, version, (item,), 1, created, False, time_us, notes)
    assert events.encode_put(record, version, created, time_us, media_type, size, notes) == events.encode(event)


tombs = st.builds(RangeTomb, stamps, st.booleans(), names, st.none() | names, times)


@given(stamps, st.booleans(), st.lists(tombs, max_size=3), st.none() | st.binary(min_size=33, max_size=60), times)
def test_records(version: bytes, ordered: bool, ranges: list[RangeTomb], flat: bytes | None, expire_us: int) -> None:
    items, buried = MemoryFamily(), MemoryFamily()
    record = StoredRecord(7, b"r", None, items, buried)
    assert record.row() is None and not record.alive(0)
    record.version, record.ordered, record.range_tombs, record.flat = version, ordered, ranges, flat
    record.items_count, record.immortal, record.last_expire_us, record.tombs_count, record.size = 3, 2, expire_us, 1, 9
    again = StoredRecord(7, b"r", record.row(), items, buried)
    for name in StoredRecord.__slots__:
        if name not in ("exists", "loaded", "_sizes"):
            assert getattr(again, name) == getattr(record, name), name
