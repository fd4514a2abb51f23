"""Typed records: what goes in comes out, a class may grow, nothing wrong is stored or answered, no update is lost."""

import asyncio
import dataclasses
import datetime
import decimal
import enum
import json
import uuid
from typing import Any, cast

import pytest

from wellspring.storage.v1 import storage_pb2 as pb
from wellspring_client.errors import ConditionFailed, NotFound
from wellspring_client.record_codecs import RecordInvalid, codec_for
from wellspring_client.records import Records
from wellspring_client.storage_types import Record


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass(frozen=True)
class Part:
    name: str
    parts: "list[Part]" = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Everything:
    text: str
    number: int
    share: float
    flag: bool
    raw: bytes
    at: datetime.datetime
    day: datetime.date
    span: datetime.timedelta
    name: uuid.UUID
    price: decimal.Decimal
    colour: Colour
    part: Part
    tags: frozenset[str]
    rows: tuple[int, ...]
    by_name: dict[str, list[float]]
    maybe: str | None = None
    other: Colour | None = None


VALUE = Everything(
    "ä\n",
    -(1 << 70),
    2.5,
    True,
    bytes(range(256)),
    datetime.datetime(2026, 11, 22, 1, 2, 3, 4, datetime.UTC),
    datetime.date(2026, 11, 22),
    datetime.timedelta(days=3, microseconds=7),
    uuid.UUID(int=7),
    decimal.Decimal("1.10"),
    Colour.BLUE,
    Part("a", [Part("b"), Part("c", [Part("d")])]),
    frozenset(["y", "x"]),
    (1, 2),
    {"k": [1.0, 2.0]},
    other=Colour.RED,
)


def test_what_goes_in_comes_out():
    codec = codec_for(Everything)
    data = codec.encode(VALUE)
    assert codec.decode(data) == VALUE and codec.content_type == "application/json"
    words = json.loads(data)
    assert (words["colour"], words["tags"], words["day"], words["maybe"]) == ("blue", ["x", "y"], "2026-11-22", None)
    assert codec.encode(VALUE) == data


def test_a_class_may_grow_and_shrink():
    @dataclasses.dataclass
    class Before:
        text: str
        old: int = 1

    @dataclasses.dataclass
    class After:
        text: str
        new: list[str] = dataclasses.field(default_factory=lambda: ["none"])

    @dataclasses.dataclass
    class Strict:
        text: str
        needed: int

    data = codec_for(Before).encode(Before("x"))
    assert codec_for(After).decode(data) == After("x", ["none"])
    with pytest.raises(RecordInvalid, match="needed: is not stored"):
        codec_for(Strict).decode(data)


@pytest.mark.parametrize(
    ("field", "wrong", "said"),
    [
        ("text", 3, "text: is int"),
        ("number", True, "number: is bool"),
        ("number", 1.5, "number: is float"),
        ("flag", 1, "flag: is int"),
        ("share", float("nan"), "NaN|nan|Out of range"),
        ("raw", "text", "raw: is str"),
        ("colour", "blue", "colour: is str"),
        ("part", {"name": "x"}, "part: is dict"),
        ("tags", ["x"], "tags: is list"),
        ("rows", (1, "2"), r"rows\[1\]: is str"),
        ("by_name", {1: []}, "by_name: is no dict"),
        ("by_name", {"k": ["1"]}, r"by_name\['k'\]\[0\]: is str"),
        ("part", Part("a", [Part(cast(Any, 3))]), r"part.parts\[0\].name: is int"),
    ],
)
def test_a_wrong_value_is_not_stored(field: str, wrong: Any, said: str):
    with pytest.raises(RecordInvalid, match=said):
        codec_for(Everything).encode(dataclasses.replace(VALUE, **{field: wrong}))


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("text", 3),
        ("number", 1.0),
        ("flag", 0),
        ("raw", "not base64!"),
        ("at", "yesterday"),
        ("name", "x"),
        ("price", "much"),
        ("colour", "green"),
        ("part", {"name": "a", "parts": [{"name": 3}]}),
        ("tags", {"x": 1}),
        ("by_name", []),
        ("maybe", 3),
    ],
)
def test_what_is_stored_wrongly_is_not_answered(field: str, wrong: Any):
    codec = codec_for(Everything)
    words = json.loads(codec.encode(VALUE)) | {field: wrong}
    with pytest.raises(RecordInvalid, match=field):
        codec.decode(json.dumps(words).encode())
    for data in (b"", b"\xff", b"[]", b"null", b'"text"'):
        with pytest.raises(RecordInvalid):
            codec.decode(data)


def test_classes_that_cannot_be_stored_are_refused_at_once():
    for kind in (Any, object, list, dict[int, str], int | str, tuple[int, str], complex):
        made = dataclasses.make_dataclass("Made", [("field", kind)])
        with pytest.raises(TypeError, match="cannot be stored"):
            codec_for(made)
    with pytest.raises(TypeError, match="neither a dataclass"):
        codec_for(dict)
    with pytest.raises(RecordInvalid, match="is dict, not Part"):
        codec_for(Part).encode({"name": "x"})


def test_a_model_writes_and_checks_itself():
    class Model:
        def __init__(self, number: int) -> None:
            self.number = number

        def model_dump_json(self) -> str:
            return json.dumps({"number": self.number})

        @classmethod
        def model_validate_json(cls, data: bytes) -> "Model":
            return cls(int(json.loads(data)["number"]))

    codec = codec_for(Model)
    assert codec.decode(codec.encode(Model(7))).number == 7
    with pytest.raises(RecordInvalid):
        codec.decode(b'{"number": "x"}')


class FakeNamespace:
    """A CAS namespace in memory; each call gives way once, so that others come between."""

    def __init__(self) -> None:
        self.items: dict[bytes, pb.Item] = {}
        self.writes = 0

    async def get(self, record, key=b"", *, cookie="", timeout=None):
        await asyncio.sleep(0)
        return self.items.get(_key(record))

    async def get_many(self, records, key=b"", *, timeout=None):
        return [self.items.get(_key(record)) for record in records]

    async def put(self, record, value, *, content_type="", if_absent=False, if_etag=None, **rest):
        await asyncio.sleep(0)
        there = self.items.get(_key(record))
        if (if_absent and there is not None) or (if_etag is not None and (there is None or there.etag != if_etag)):
            raise ConditionFailed("somebody was faster", reason="CONDITION_FAILED")
        self.writes += 1
        etag = f"{self.writes:x}"
        self.items[_key(record)] = pb.Item(value=value, etag=etag, content_type=content_type)
        return pb.Receipt(etag=etag)

    async def delete(self, record, *, allow_missing=False, if_etag=None, **rest):
        if self.items.pop(_key(record), None) is None and not allow_missing:
            raise NotFound("nothing")
        return pb.Receipt()

    async def record_pages(self, *, prefix=None):
        for key in sorted(self.items):
            if key.startswith(_key(prefix or b"")):
                yield [Record(key, [self.items[key]])]
        yield [Record(b"\xff", [pb.Item(key=b"k", value=b"no value of ours")])]


def _key(record: str | bytes) -> bytes:
    return record if isinstance(record, bytes) else record.encode()


def test_records_are_read_written_scanned_and_deleted():
    async def story() -> None:
        namespace = FakeNamespace()
        records = Records(namespace, codec_for(Part))
        await records.put("a", Part("1"), if_absent=True)
        await records.put("b", Part("2"))
        with pytest.raises(ConditionFailed):
            await records.put("a", Part("3"), if_absent=True)
        stored = await records.get("a")
        assert stored is not None and (stored.key, stored.value, stored.etag) == (b"a", Part("1"), "1")
        await records.put("a", Part("4"), if_etag=stored.etag)
        assert await records.get("none") is None
        found = await records.get_many(["b", "none", b"a"])
        assert [one and one.value for one in found] == [Part("2"), None, Part("4")]
        assert [one.key async for one in records.scan()] == [b"a", b"b"]
        assert [one.value async for one in records.scan(prefix="b")] == [Part("2")]
        await records.delete("a")
        with pytest.raises(NotFound):
            await records.delete("a")
        await records.delete("a", allow_missing=True)
        assert namespace.items[b"b"].content_type == "application/json"

    asyncio.run(story())


def test_no_update_is_lost():
    async def story() -> None:
        namespace = FakeNamespace()
        records = Records(namespace, codec_for(Part))

        async def count() -> None:
            for _ in range(10):
                await records.update("n", lambda one: Part(str(int(one.name) + 1)), default=Part("0"))

        await asyncio.gather(*(count() for _ in range(5)))
        stored = await records.get("n")
        assert stored is not None and stored.value == Part("50") and namespace.writes == 50
        with pytest.raises(NotFound):
            await records.update("none", lambda one: one)
        namespace.items[b"bad"] = pb.Item(value=b"{}")
        with pytest.raises(RecordInvalid):
            await records.update("bad", lambda one: one)

    asyncio.run(story())
