"""Between the contract's messages and the engine's objects, both ways."""

from collections.abc import Iterable, Sequence

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.unknown_fields import UnknownFieldSet
from google.rpc import status_pb2  # type: ignore[import-untyped]

from libs.errors.errors import InvalidArgument, WellspringError
from libs.ids.ids import VERSION_BYTES
from libs.rpc.errors import to_status
from services.propagation.domain import names
from services.propagation.domain.change import Cause, Change
from services.propagation.domain.errors import VersionInvalid
from services.propagation.domain.outputs import OutputChange
from services.propagation.domain.progress import Progress
from services.propagation.domain.records import RootRecord
from wellspring.propagation.v1 import propagation_pb2

_MAX_ATTRIBUTES = 16
_MAX_ATTRIBUTE_BYTES = 4096
_CAUSE_LIMITS = (("kind", 64), ("causer", 256), ("request_id", 128))
_MAX_CHAIN = 64


def at_most(path: str, count: int, limit: int) -> None:
    """Raises InvalidArgument when a field has more entries than are allowed."""
    if count > limit:
        raise InvalidArgument.field(path, f"has {count:,} entries; at most {limit:,} are allowed")


def change_of(message: propagation_pb2.Change, path: str) -> Change:
    """The validated change. Raises InvalidArgument's kin, naming the field below `path`."""
    names.check_change_id(message.id, f"{path}.id")
    names.check_source(message.resource, f"{path}.resource")
    aspects = names.check_aspects(message.aspects, f"{path}.aspects")
    if len(message.version) != VERSION_BYTES:
        raise VersionInvalid.field(
            f"{path}.version", f"is {len(message.version)} bytes long; exactly {VERSION_BYTES} are allowed"
        )
    if message.lane and not names.is_word(message.lane):
        raise InvalidArgument.field(f"{path}.lane", f"is no lane; {names.WORD_RULE}")
    attributes = _attributes(message, path)
    return Change(
        id=message.id,
        resource=message.resource,
        aspects=aspects,
        version=message.version,
        cause=_cause_of(message.cause, f"{path}.cause"),
        lane=message.lane,
        time_ns=time_ns(message.time, f"{path}.time"),
        attributes=attributes,
        extra=_extra(message, path),
    )


def _extra(message: propagation_pb2.Change, path: str) -> bytes:
    """The fields that this release does not know, as they came."""
    if not len(UnknownFieldSet(message)):
        return b""
    unknown: Message = propagation_pb2.Change()
    unknown.CopyFrom(message)
    for field in message.DESCRIPTOR.fields:
        unknown.ClearField(field.name)
    packed = unknown.SerializeToString()
    if len(packed) > _MAX_ATTRIBUTE_BYTES:
        raise InvalidArgument.field(
            path, f"has {len(packed):,} bytes of unknown fields; at most {_MAX_ATTRIBUTE_BYTES:,} are allowed"
        )
    return packed


def _attributes(message: propagation_pb2.Change, path: str) -> tuple[tuple[str, str], ...]:
    pairs = tuple(sorted(message.attributes.items()))
    size = sum(len(key.encode()) + len(value.encode()) for key, value in pairs)
    if len(pairs) > _MAX_ATTRIBUTES or size > _MAX_ATTRIBUTE_BYTES:
        raise InvalidArgument.field(
            f"{path}.attributes",
            f"has {len(pairs)} entries of {size:,} bytes; at most {_MAX_ATTRIBUTES} of"
            f" {_MAX_ATTRIBUTE_BYTES:,} bytes together are allowed",
        )
    return pairs


def _cause_of(message: propagation_pb2.Cause, path: str) -> Cause:
    for field, limit in _CAUSE_LIMITS:
        size = len(getattr(message, field).encode())
        if size > limit:
            raise InvalidArgument.field(f"{path}.{field}", f"is {size} bytes long; at most {limit} are allowed")
    if len(message.chain) > _MAX_CHAIN:
        raise InvalidArgument.field(f"{path}.chain", f"has {len(message.chain)} ids; at most {_MAX_CHAIN} are allowed")
    for index, change_id in enumerate(message.chain):
        names.check_change_id(change_id, f"{path}.chain[{index}]")
    return Cause(message.kind, message.causer, message.request_id, tuple(message.chain))


def time_ns(message: Timestamp, path: str) -> int:
    """Wall-clock nanoseconds, 0 for none. Raises InvalidArgument."""
    try:
        nanoseconds: int = message.ToNanoseconds()
    except ValueError:
        raise InvalidArgument.field(path, "is no time between the years 1 and 9999") from None
    return nanoseconds


def seconds(message: Duration, path: str, low: float, high: float, default: float) -> float:
    """Seconds of a duration, `default` for none. Raises InvalidArgument outside low..high."""
    if not message.seconds and not message.nanos:
        return default
    value = message.seconds + message.nanos / 1e9
    if not low <= value <= high:
        raise InvalidArgument.field(path, f"is {value:g} s; {low:g} s to {high:g} s are allowed")
    return value


def timestamp(nanoseconds: int) -> Timestamp:
    """The time as a message."""
    whole, rest = divmod(nanoseconds, 1_000_000_000)
    return Timestamp(seconds=whole, nanos=rest)


def duration(value_s: float) -> Duration:
    """The seconds as a message."""
    whole, rest = divmod(round(value_s * 1e9), 1_000_000_000)
    return Duration(seconds=whole, nanos=rest)


def change_message(change: Change) -> propagation_pb2.Change:
    """The change as a message."""
    message = propagation_pb2.Change(
        id=change.id,
        resource=change.resource,
        aspects=change.aspects,
        version=change.version,
        cause=cause_message(change.cause),
        lane=change.lane,
        time=timestamp(change.time_ns) if change.time_ns else None,
        attributes=dict(change.attributes),
    )
    if change.extra:
        message.MergeFromString(change.extra)
    return message


def output_message(changed: OutputChange, root: str) -> propagation_pb2.Change:
    """The change of an output; `root` is the id of the root that it was rendered for, empty when it is not known."""
    return propagation_pb2.Change(
        id=f"output/{changed.sequence:x}/{changed.resource:x}",
        resource=changed.name,
        aspects=[names.CONTENT],
        version=changed.version,
        cause=propagation_pb2.Cause(kind="render", chain=[root] if root else []),
        time=timestamp(changed.time_ns),
    )


def cause_message(cause: Cause) -> propagation_pb2.Cause:
    """The cause as a message."""
    return propagation_pb2.Cause(kind=cause.kind, causer=cause.causer, request_id=cause.request_id, chain=cause.chain)


def root_message(record: RootRecord, progress: Progress) -> propagation_pb2.Root:
    """The root and how far it is."""
    tally = progress.tally
    message = propagation_pb2.Root(
        change=change_message(record.change),
        state=propagation_pb2.Root.State.ValueType(int(record.state)),
        sequence=record.sequence,
        accept_time=timestamp(record.accepted_ns),
        finish_time=timestamp(record.finished_ns) if record.finished_ns else None,
        superseded_by=record.superseded_by,
        lane=record.lane,
        weight=record.weight,
        left=record.left,
        progress=propagation_pb2.Progress(
            total=tally.total,
            done=tally.done,
            changed=tally.changed,
            unchanged=tally.unchanged,
            coalesced=progress.coalesced,
            failed=tally.failed,
            retrying=progress.retrying,
            leased=progress.leased,
            levels=tally.levels,
            rate_per_s=progress.rate_per_s,
            reads_fresh_share=progress.fresh_share,
            renderer_seconds=tally.seconds,
            held_back=progress.held_back,
        ),
    )
    if progress.eta_s is not None:
        message.progress.eta.CopyFrom(duration(min(progress.eta_s, 1e9)))
    return message


def statuses(errors: Iterable[WellspringError | None]) -> Sequence[status_pb2.Status]:
    """A status each; OK for None."""
    return [status_pb2.Status() if error is None else to_status(error) for error in errors]
