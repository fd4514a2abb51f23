"""What a namespace's methods take and give beside the messages of the contract."""

import dataclasses
import datetime
from collections.abc import Mapping, Sequence

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from wellspring.storage.v1 import storage_pb2 as pb
from wellspring_client.errors import WellspringError


@dataclasses.dataclass(frozen=True, slots=True)
class Put:
    """One item to set, with its condition: at most one of ``if_absent``, ``if_etag``, ``older_than``; of expiry,
    ``ttl`` or ``expire_time`` (with a time zone)."""

    value: bytes
    key: str | bytes = b""
    content_type: str = ""
    attributes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    ttl: datetime.timedelta | None = None
    expire_time: datetime.datetime | None = None
    if_absent: bool = False
    if_etag: str | None = None
    older_than: bytes | None = None

    def mutation(self) -> pb.Mutation:
        """The message. Raises ValueError for what excludes each other."""
        return pb.Mutation(put=put_item(self), condition=condition(self))


@dataclasses.dataclass(frozen=True, slots=True)
class Delete:
    """Items to delete: by ``keys``, by range [start, end), or all when nothing is given."""

    keys: Sequence[str | bytes] | None = None
    start: str | bytes | None = None
    end: str | bytes | None = None
    if_etag: str | None = None

    def mutation(self) -> pb.Mutation:
        """The message. Raises ValueError for what excludes each other."""
        return pb.Mutation(
            delete=selection(self.keys, self.start, self.end), condition=condition(Put(b"", if_etag=self.if_etag))
        )


@dataclasses.dataclass(frozen=True, slots=True)
class ColumnsPut:
    """What became of each put of :meth:`Namespace.put_columns`, by record, in the order given: its outcome, or why it
    was refused. A read with the ``cookie`` sees those that were not."""

    outcomes: Mapping[bytes, "pb.Outcome.ValueType | WellspringError"]
    cookie: str


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """A record of a scan: its key and its items in the order of their keys."""

    key: bytes
    items: list[pb.Item]

    @property
    def value(self) -> bytes:
        """The value of a flat record: of its item with the empty key; empty when it has none."""
        return self.items[0].value if self.items and not self.items[0].key else b""


def as_bytes(text: str | bytes) -> bytes:
    """A key: bytes as they are, text as UTF-8. Raises ValueError for text that has no UTF-8."""
    return text if isinstance(text, bytes) else text.encode()


def put_item(put: Put) -> pb.Item:
    """The item that ``put`` sets."""
    if put.ttl is not None and put.expire_time is not None:
        raise ValueError("give ttl or expire_time, not both")
    item = pb.Item(
        key=as_bytes(put.key), value=put.value, content_type=put.content_type, attributes=dict(put.attributes)
    )
    if put.ttl is not None:
        item.ttl.CopyFrom(_duration(put.ttl))
    if put.expire_time is not None:
        if put.expire_time.tzinfo is None:
            raise ValueError("expire_time needs a time zone, such as datetime.timezone.utc")
        stamp = Timestamp()
        stamp.FromDatetime(put.expire_time)
        item.expire_time.CopyFrom(stamp)
    return item


def condition(put: Put) -> pb.Condition | None:
    """The condition of ``put``, None when it has none."""
    if put.if_absent + (put.if_etag is not None) + (put.older_than is not None) > 1:
        raise ValueError("give at most one of if_absent, if_etag and older_than")
    if put.if_absent:
        return pb.Condition(absent=True)
    if put.if_etag is not None:
        return pb.Condition(etag=put.if_etag)
    return pb.Condition(older_than=put.older_than) if put.older_than is not None else None


def selection(
    keys: Sequence[str | bytes] | None, start: str | bytes | None, end: str | bytes | None, reverse: bool = False
) -> pb.Selection:
    """Which items: ``keys``, or the range [start, end), or all."""
    if isinstance(keys, str | bytes):
        raise ValueError("keys is a list of keys, not one key")
    if keys is not None and (start is not None or end is not None):
        raise ValueError("give keys or a range, not both")
    if keys is not None:
        return pb.Selection(keys=pb.Keys(keys=[as_bytes(key) for key in keys]), reverse=reverse)
    if start is None and end is None:
        return pb.Selection(all=True, reverse=reverse)
    return pb.Selection(range=pb.KeyRange(start=as_bytes(start or b""), end=as_bytes(end or b"")), reverse=reverse)


def ranges_of(ranges: Sequence[tuple[str | bytes, str | bytes]], prefix: str | bytes | None) -> list[pb.KeyRange]:
    """Ranges of record keys, out of pairs (start, end; empty: no end) and a prefix."""
    made = [pb.KeyRange(start=as_bytes(start), end=as_bytes(end)) for start, end in ranges]
    if prefix:
        start = as_bytes(prefix)
        kept = start.rstrip(b"\xff")
        made.append(pb.KeyRange(start=start, end=kept[:-1] + bytes([kept[-1] + 1]) if kept else b""))
    return made


def _duration(delta: datetime.timedelta) -> Duration:
    duration = Duration()
    duration.FromTimedelta(delta)
    return duration
