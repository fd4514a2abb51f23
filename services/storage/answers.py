"""The domain's answers as messages of the contract."""

from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from libs.errors.errors import WellspringError
from libs.rpc.errors import to_status
from services.storage.domain import limits
from services.storage.domain.feed import ChangeEvent, change_id
from services.storage.domain.model import Item, Outcome, Receipt
from services.storage.domain.namespace import Namespace
from services.storage.store.interface import KeptVersion, Page
from services.storage.tokens import cookie
from wellspring.storage.v1 import storage_pb2 as pb

_US = 1_000_000
_APPLIED: Final = Outcome.APPLIED
_SHORT_CURSOR: Final = 24
"""Bytes of a cursor with which a receipt's length is one byte on the wire."""


def fill_receipt(answer: pb.Receipt, given: Receipt, namespace: Namespace, record: bytes, cursor: bytes) -> None:
    """Fills an empty message with a receipt. ``cursor`` is the feed's behind the write; the change's id stands in it
    when the namespace is bound and readers see a difference."""
    outcome, version, deleted_items, sequence, cost = given
    answer.cookie = cookie(cursor)
    answer.outcome = outcome.value  # type: ignore[assignment]  # the numbers are the contract's
    answer.version = version
    answer.etag = version.hex()
    if deleted_items:
        answer.deleted_items = deleted_items
    if sequence and namespace.settings.binding is not None:
        answer.change_id = change_id(namespace.name, version, record)
    if cost is not None:
        answer.cost.bytes_read, answer.cost.bytes_written, answer.cost.items_read, answer.cost.items_written = cost


def mutated(given: Receipt, namespace: Namespace, record: bytes, cursor: bytes) -> bytes:
    """A PutResponse, DeleteResponse or MutateResponse, serialised: they differ in nothing but their names."""
    receipt = _plain_receipt(given, namespace, cursor)
    if receipt is not None:
        return b"\x0a%c%b" % (len(receipt), receipt)
    answer = pb.MutateResponse()
    fill_receipt(answer.receipt, given, namespace, record, cursor)
    return answer.SerializeToString()


def mutated_one(given: Receipt, namespace: Namespace, record: bytes, cursor: bytes) -> bytes:
    """One result of a BatchMutateResponse, serialised: results one after the other are the response."""
    receipt = _plain_receipt(given, namespace, cursor)
    if receipt is not None:
        return b"\x0a%c\x0a\x00\x12%c%b" % (len(receipt) + 4, len(receipt), receipt)
    answer = pb.BatchMutateResponse()
    result = answer.results.add()
    fill_receipt(result.receipt, given, namespace, record, cursor)
    result.status.SetInParent()
    return answer.SerializeToString()


def refused_one(error: WellspringError) -> bytes:
    """The same for a mutation that was refused."""
    answer = pb.BatchMutateResponse()
    answer.results.add().status.CopyFrom(to_status(error))
    return answer.SerializeToString()


def _plain_receipt(given: Receipt, namespace: Namespace, cursor: bytes) -> bytes | None:
    """The receipt of an applied write with nothing out of the ordinary, serialised field by field; None for any other.

    To build the message would cost as much as to decide the put. ``answers_test.py`` holds the two against each other.
    """
    outcome, version, deleted_items, _, cost = given
    if outcome is not _APPLIED or deleted_items or cost is not None or namespace.settings.binding is not None:
        return None
    if not 0 < len(cursor) <= _SHORT_CURSOR or len(version) != limits.VERSION_SIZE:
        return None
    size = 2 * len(cursor)
    return b"\x0a%c%b\x10\x01\x1a\x10%b\x22\x20%b" % (size, cursor.hex().encode(), version, version.hex().encode())


def timestamp(time_us: int) -> Timestamp:
    """A time as its message."""
    return Timestamp(seconds=time_us // _US, nanos=time_us % _US * 1000)


def fill_item(answer: pb.Item, item: Item, *, omit_value: bool) -> None:
    """Fills an empty message with an item."""
    answer.key = item.key
    if omit_value or item.chunked:
        answer.size_bytes = item.size
        answer.chunked = item.chunked
    else:
        answer.value = item.value
    answer.version = item.version
    answer.etag = item.version.hex()
    written = answer.write_time
    written.seconds, written.nanos = item.write_us // _US, item.write_us % _US * 1000
    if item.content_type:
        answer.content_type = item.content_type
    if item.attributes:
        answer.attributes.update(item.attributes)
    if item.expire_us:
        answer.expire_time.CopyFrom(timestamp(item.expire_us))


def fill_page(answer: pb.GetResponse, given: Page, next_page_token: str, *, omit_values: bool) -> None:
    """Fills an empty message with a page of a record."""
    if given.resume is None:
        answer.complete = True
    else:
        answer.next_page_token = next_page_token
    if given.found:
        answer.found = True
        answer.record_etag = given.version.hex()
    for item in given.items:
        fill_item(answer.items.add(), item, omit_value=omit_values)


def event(given: ChangeEvent, namespace: Namespace) -> pb.ChangeEvent:
    """A change of the feed."""
    return pb.ChangeEvent(
        record=given.record,
        version=given.version,
        items=[
            pb.ChangeEvent.ItemChange(
                key=change.key, deleted=change.deleted, content_type=change.content_type, size_bytes=change.size
            )
            for change in given.items
        ],
        item_count=given.item_count,
        created=given.created,
        deleted=given.deleted,
        time=timestamp(given.time_us),
        annotations=dict(given.annotations),
        change_id=change_id(namespace.name, given.version, given.record),
        in_doubt=given.in_doubt,
    )


def kept_version(given: KeptVersion, *, omit_values: bool) -> pb.ListVersionsResponse.Version:
    """A version of an item."""
    answer = pb.ListVersionsResponse.Version(deleted=given.deleted)
    fill_item(answer.item, given.item, omit_value=omit_values)
    return answer
