"""Messages to events: what is none, or not of its schema, is told with its bytes."""

import json

import pytest

from libs.kafka.consumer import Record
from services.propagation.kafka.reading import delivery_of

GOOD = {"$schema": "/resource_change/1.0.0", "meta": {"stream": "t", "dt": "2026-01-01T00:00:00Z"}}


def record(value, *headers):
    return Record("t", 0, 4, None, value if isinstance(value, bytes) else json.dumps(value).encode(), 0, headers)


def test_an_event_and_how_far_it_came():
    delivery = delivery_of(record(GOOD, ("wellspring-hops", b"3")), "resource_change")
    assert (delivery.event, delivery.position, delivery.hops, delivery.problem) == (GOOD, 5, 3, "")
    for strange in (b"", b"-1", b"x", b"9999999", "²".encode()):
        assert delivery_of(record(GOOD, ("wellspring-hops", strange))).hops == 0


@pytest.mark.parametrize(
    ("value", "schema", "says"),
    [
        (b"", "", "is empty"),
        (b"{", "", "is no JSON"),
        ([], "", "an event is a JSON object"),
        (GOOD | {"meta": {"stream": "t"}}, "", "is no resource_change/1: meta.dt is missing"),
        (GOOD, "mediawiki/page/delete", "the topic holds events of mediawiki/page/delete"),
        ({"meta": {}}, "resource_change", "names none as its $schema"),
        (GOOD | {"$schema": "/resource_change/2.0.0"}, "resource_change", "what is known of it is 1.x"),
    ],
)
def test_what_is_no_event_of_the_topic_is_told_and_its_bytes_are_kept(value, schema, says):
    given = record(value)
    delivery = delivery_of(given, schema)
    assert (
        delivery.event is None and says in delivery.problem and delivery.raw == given.value and delivery.position == 5
    )
