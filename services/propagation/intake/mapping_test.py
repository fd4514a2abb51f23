"""What an event of a bound namespace means."""

import pytest

from services.propagation.domain import names
from services.propagation.intake import mapping
from wellspring.storage.v1 import storage_admin_pb2, storage_pb2

BINDING = storage_admin_pb2.Binding(resource_prefix="w/page/", lane="edits", item_aspects={"title": "title"})
VERSION = bytes(15) + b"\7"


def event(*keys, record=b"Main", **more):
    items = [storage_pb2.ChangeEvent.ItemChange(key=key) for key in keys]
    fields = {"item_count": len(items), "version": VERSION, "change_id": "storage/wiki/7/x", **more}
    return storage_pb2.ChangeEvent(record=record, items=items, **fields)


def one(given, binding=BINDING):
    (change,) = mapping.changes_of(given, "wiki", binding)
    return change


def test_items_touch_their_aspects():
    assert one(event(b"")).aspects == ("content",)
    assert one(event(b"title")).aspects == ("title",)
    assert one(event(b"title", b"text")).aspects == ("title", "content")


def test_made_and_ended_records_touch_existence():
    assert set(one(event(b"", created=True)).aspects) == {"content", "existence"}
    assert set(one(event(b"title", deleted=True)).aspects) == {"title", "content", "existence"}
    assert set(one(event(b"title", in_doubt=True)).aspects) == {"title", "content", "existence"}


def test_an_event_that_names_only_some_of_its_items_touches_content():
    assert set(one(event(b"title", item_count=500)).aspects) == {"title", "content"}


def test_identity_cause_lane_and_time():
    given = event(b"", annotations={"kind": "edit", "cause.causer": "u1", "request_id": "r" * 300, "comment": "typo"})
    given.time.FromNanoseconds(1_700_000_000_123_456_789)
    change = one(given)
    assert (change.id, change.resource, change.version) == ("storage/wiki/7/x", "w/page/Main", VERSION)
    assert (change.cause.kind, change.cause.causer, len(change.cause.request_id)) == ("edit", "u1", 128)
    assert change.attributes == (("comment", "typo"),)
    assert (change.lane, change.time_ns) == ("edits", 1_700_000_000_123_456_789)


def test_more_aspects_than_a_change_may_name():
    binding = storage_admin_pb2.Binding(resource_prefix="w/", item_aspects={f"k{at}": f"a{at}" for at in range(40)})
    changes = mapping.changes_of(event(*[f"k{at}".encode() for at in range(40)]), "wiki", binding)
    assert [len(change.aspects) for change in changes] == [16, 16, 8]
    assert len({change.id for change in changes}) == 3
    assert all(names.check_change_id(change.id, "id") for change in changes)


@pytest.mark.parametrize("record", [b"\xff", b"a\nb", b"x" * 1100])
def test_records_that_can_be_no_resource(record):
    with pytest.raises(mapping.Unmappable):
        mapping.changes_of(event(b"", record=record), "wiki", BINDING)


def test_a_prefix_that_would_name_outputs():
    with pytest.raises(mapping.Unmappable):
        mapping.changes_of(event(b"", record=b"html/x"), "wiki", storage_admin_pb2.Binding(resource_prefix="view/"))
