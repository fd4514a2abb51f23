"""CloudEvents in both modes become events and messages again; what only says that it is one is named."""

import base64
import json

import pytest

from libs.errors.errors import InvalidArgument
from libs.kafka.consumer import Record
from services.propagation.kafka.cloudevents import NoCloudEvent, event_of, is_one, message_of
from services.propagation.kafka.reading import delivery_of

ATTRIBUTES = {
    "id": "e-1",
    "source": "https://cms.example/articles",
    "type": "example.article.changed",
    "subject": "a/7",
    "time": "2026-01-01T00:00:00Z",
    "revision": "12",
}


def record(value, **headers):
    pairs = tuple((name.replace("__", "-"), text.encode()) for name, text in headers.items())
    return Record("t", 0, 4, None, value, 1_767_225_600_000, pairs)


def binary(value=b'{"a": [1]}', content_type="application/json", **changed):
    attributes = {"specversion": "1.0"} | ATTRIBUTES | changed
    headers = {f"ce_{name}": text for name, text in attributes.items() if text is not None}
    return record(value, content__type=content_type, **headers)


def structured(**changed):
    plain = {"specversion": "1.0", **ATTRIBUTES, "data": {"a": [1]}} | changed
    content_type = "application/cloudevents+json; charset=utf-8"
    return record(json.dumps({k: v for k, v in plain.items() if v is not None}).encode(), content__type=content_type)


@pytest.mark.parametrize("given", [binary(), structured()])
def test_both_modes_are_the_same_event(given):
    assert is_one(given)
    event = event_of(given)
    assert event["data"] == {"a": [1]}
    assert {**event["cloudevent"], "datacontenttype": ""} == {**ATTRIBUTES, "datacontenttype": ""}
    meta = event["meta"]
    assert (meta["stream"], meta["id"], meta["uri"], meta["dt"]) == ("t", "e-1", "a/7", "2026-01-01T00:00:00Z")
    assert meta["domain"] == "cms.example"
    delivery = delivery_of(given)
    assert delivery.position == 5 and delivery.event == event


def test_what_may_be_missing_is_filled_in():
    event = event_of(binary(subject=None, time=None, source="urn:x"))
    assert event["meta"]["uri"] == "urn:x" and event["meta"]["domain"] == "unknown"
    assert event["meta"]["dt"] == "2026-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("given", "data"),
    [
        (binary(b"hello", "text/plain"), "hello"),
        (binary(b"\xff\x00", "image/png"), base64.b64encode(b"\xff\x00").decode()),
        (binary(b""), None),
        (structured(data=None, data_base64=base64.b64encode(b"hi").decode(), datacontenttype="text/plain"), "hi"),
        (structured(data="text"), "text"),
    ],
)
def test_data(given, data):
    assert event_of(given)["data"] == data


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (binary(specversion="0.3"), "another version"),
        (binary(id=""), "without id"),
        (structured(source=None, type=None), "without source, type"),
        (binary(b"{"), "no JSON"),
        (binary(b"[" * 100_000), "no JSON"),
        (structured(data_base64="*"), "base64"),
        (record(b"[]", content__type="application/cloudevents+json"), "no JSON object"),
        (record(b"<x/>", content__type="application/cloudevents+xml"), "is read"),
    ],
)
def test_what_is_none_is_told_and_its_bytes_are_kept(given, says):
    with pytest.raises(NoCloudEvent, match=says):
        event_of(given)
    delivery = delivery_of(given)
    assert delivery.event is None and says in delivery.problem and delivery.raw == given.value


def test_what_is_sent_is_read_as_the_same():
    first = event_of(binary())
    value, headers = message_of(first)
    assert event_of(Record("t", 0, 4, None, value, 0, tuple(headers))) == first
    made = {"meta": {"stream": "t", "id": "m", "dt": "2026-01-01T00:00:00Z"}, "data": "x"}
    value, headers = message_of(made | {"cloudevent": {"type": "a", "source": "b", "datacontenttype": "text/plain"}})
    told = event_of(Record("t", 0, 4, None, value, 0, tuple(headers)))
    assert told["data"] == "x" and told["meta"]["id"] == "m" and dict(headers)["ce_time"] == b"2026-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("x", "no mapping"),
        ({"type": "a"}, "source: is missing"),
        ({"type": "a", "source": "b", "Bad": "x"}, "Bad: is no attribute"),
        ({"type": "a", "source": "b", "n": 1}, "n: is no attribute"),
        ({"type": "a", "source": "b", "specversion": "2.0"}, "specversion"),
    ],
)
def test_what_cannot_be_sent_is_refused_by_name(given, says):
    with pytest.raises(InvalidArgument, match=says):
        message_of({"meta": {"stream": "t", "id": "m"}, "cloudevent": given})
