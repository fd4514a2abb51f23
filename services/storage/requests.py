"""Requests of the data plane made into the domain's words; what no state could make right is refused here, by field."""

from collections.abc import Iterable, Mapping
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from libs.errors.errors import InvalidArgument
from services.storage.domain import limits
from services.storage.domain.commands import body_digest, put_digest, with_default_ttl
from services.storage.domain.errors import ValueTooLarge
from services.storage.domain.model import ALL, Command, Condition, ConditionKind, Delete, Put, Selection, WriteToken
from services.storage.domain.namespace import Namespace, check_bound_record
from wellspring.storage.v1 import storage_pb2 as pb

_US: Final = 1_000_000
_MAX_SECONDS: Final = limits.MAX_TIME_US // _US
_FIRST: Final = (0,)
_tuple: Final = tuple.__new__
_OLDER_THAN: Final = ConditionKind.OLDER_THAN
_PUT_PATHS: Final = tuple(f"mutations[{index}].put" for index in range(limits.MAX_MUTATIONS))
_VALUE_HELP: Final = "Upload takes values up to 1 GiB"
_CONSISTENCIES: Final = frozenset(pb.Consistency.values())


class Reader:
    """Reads requests. ``max_value`` is the deployment's bound on an inline value; ``ttl_jitter`` as in
    ``Deployment``."""

    def __init__(self, max_value: int = limits.MAX_VALUE, ttl_jitter: float = 0.0) -> None:
        self.max_value = max_value
        self._ttl_jitter = ttl_jitter

    def put(self, request: pb.PutRequest, space: Namespace) -> Command:
        """The command of a PutRequest."""
        if not request.HasField("item"):
            raise InvalidArgument.field("item", "is missing")
        condition = request.condition if request.HasField("condition") else None
        return self._single(request, request.item, condition, space, "item", "condition", want_cost=False)

    def delete(self, request: pb.DeleteRequest, space: Namespace) -> Command:
        """The command of a DeleteRequest. A condition belongs to the one item that is named, else to the record."""
        token = read_token(request.token)
        selection = read_selection(request.selection, "selection") if request.HasField("selection") else ALL
        condition = read_condition(request.condition, "condition") if request.HasField("condition") else None
        single = selection.keys is not None and len(selection.keys) == 1
        delete = Delete(selection._replace(reverse=False), condition if single else None)
        check_consistency(request.consistency)
        command = self._command(
            space,
            request.record,
            token,
            (),
            (delete,),
            (0,),
            request.annotations,
            None if single else condition,
        )
        return command._replace(must_exist=not request.allow_missing, dry_run=request.dry_run)

    def mutate(self, request: pb.MutateRequest, space: Namespace) -> Command:
        """The command of a MutateRequest."""
        mutations = request.mutations
        if len(mutations) == 1 and not request.HasField("record_condition"):
            single = mutations[0]
            if single.HasField("put"):
                limit = single.condition if single.HasField("condition") else None
                paths = ("mutations[0].put", "mutations[0].condition")
                return self._single(request, single.put, limit, space, *paths, want_cost=request.want_cost)
        token = read_token(request.token)
        if not 1 <= len(mutations) <= limits.MAX_MUTATIONS:
            what = f"has {len(mutations)} entries; 1 to {limits.MAX_MUTATIONS} are allowed"
            raise InvalidArgument.field("mutations", what)
        puts: list[Put] = []
        deletes: list[Delete] = []
        places: tuple[list[int], list[int]] = ([], [])
        size = 0
        for index, mutation in enumerate(mutations):
            kind = mutation.WhichOneof("kind")
            condition = None
            if mutation.HasField("condition"):
                condition = read_condition(mutation.condition, f"mutations[{index}].condition")
            if kind == "put":
                put = self.item(mutation.put, token, _PUT_PATHS[index], condition)
                size += len(put.key) + len(put.value)
                puts.append(put)
                places[0].append(index)
            elif kind == "delete":
                deletes.append(_read_delete(mutation.delete, f"mutations[{index}]", condition))
                places[1].append(index)
            else:
                raise InvalidArgument.field(f"mutations[{index}]", "has neither put nor delete")
        if size > limits.MAX_REQUEST:
            raise InvalidArgument.field("mutations", f"hold {size} bytes; at most {limits.MAX_REQUEST} are allowed")
        _check_distinct(puts, places[0])
        record_condition = None
        if request.HasField("record_condition"):
            record_condition = read_condition(request.record_condition, "record_condition")
        check_consistency(request.consistency)
        positions = (*places[0], *places[1])
        return self._command(
            space,
            request.record,
            token,
            tuple(puts),
            tuple(deletes),
            positions,
            request.annotations,
            record_condition,
            request.want_cost,
        )

    def _single(
        self,
        request: pb.PutRequest | pb.MutateRequest,
        item: pb.Item,
        limit: pb.Condition | None,
        space: Namespace,
        item_path: str,
        condition_path: str,
        *,
        want_cost: bool,
    ) -> Command:
        """The command of one put: what most requests are, alone and in batches, hence without a detour. Its tuples are
        made as such, for a named one's own way to be made costs twice as much."""
        token = read_token(request.token)
        condition = None if limit is None else read_condition(limit, condition_path)
        put = self.item(item, token, item_path, condition)
        record = request.record
        if not 0 < len(record) <= limits.MAX_RECORD_KEY or space.settings.binding is not None:
            check_record(record, space)
        if request.consistency:
            check_consistency(request.consistency)
        annotations, notes = request.annotations, None
        if annotations:
            notes = read_notes(annotations, "annotations")
            body = body_digest((put,), (), None, notes)
        else:
            body = put_digest(put)
        puts: tuple[Put, ...] = (put,)
        if space.settings.retention.default_ttl_us:
            puts = self.with_ttl(puts, token, space)
        return _tuple(Command, (record, token, puts, (), _FIRST, body, None, notes, False, False, want_cost))

    def item(self, item: pb.Item, token: WriteToken, path: str, condition: Condition | None) -> Put:
        """The put of an item."""
        key, value, content_type = item.key, item.value, item.content_type
        if len(key) > limits.MAX_ITEM_KEY:
            check_key(key, f"{path}.key")
        if len(value) > self.max_value:
            raise too_large(f"{path}.value", len(value), self.max_value)
        if content_type:
            check_content_type(content_type, f"{path}.content_type")
        attributes: tuple[tuple[str, str], ...] = ()
        if item.attributes:
            attributes = tuple(sorted(read_notes(item.attributes, f"{path}.attributes").items()))
        expire_us = 0
        if item.WhichOneof("expiration") is not None:
            expire_us = _read_expiry(item, token, path)
        return _tuple(Put, (key, value, content_type, attributes, expire_us, condition, False))

    def with_ttl(self, puts: tuple[Put, ...], token: WriteToken, space: Namespace) -> tuple[Put, ...]:
        """``puts`` with the namespace's default expiry."""
        return with_default_ttl(puts, token, space.settings.retention.default_ttl_us, self._ttl_jitter)

    def _command(
        self,
        space: Namespace,
        record: bytes,
        token: WriteToken,
        puts: tuple[Put, ...],
        deletes: tuple[Delete, ...],
        positions: tuple[int, ...],
        annotations: Mapping[str, str],
        record_condition: Condition | None = None,
        want_cost: bool = False,
    ) -> Command:
        check_record(record, space)
        notes = read_notes(annotations, "annotations") if annotations else None
        body = body_digest(puts, deletes, record_condition, notes)
        if puts and space.settings.retention.default_ttl_us:
            puts = self.with_ttl(puts, token, space)
        return Command(record, token, puts, deletes, positions, body, record_condition, notes, False, False, want_cost)


def check_record(record: bytes, space: Namespace, path: str = "record") -> None:
    """Raises InvalidArgument for a record key that cannot be."""
    if not 1 <= len(record) <= limits.MAX_RECORD_KEY:
        raise InvalidArgument.field(path, f"has {len(record)} bytes; 1 to {limits.MAX_RECORD_KEY} are allowed")
    if space.settings.binding is not None:
        check_bound_record(record, path)


def check_consistency(consistency: int) -> None:
    """Raises InvalidArgument for a consistency that the contract does not have."""
    if consistency not in _CONSISTENCIES:
        known = ", ".join(name for name in list(pb.Consistency.keys()) if not name.endswith("UNSPECIFIED"))
        raise InvalidArgument.field("consistency", f"is {consistency}; {known} are allowed")


def read_token(token: pb.WriteToken, path: str = "token") -> WriteToken:
    """A write token."""
    nonce = token.nonce
    if len(nonce) != limits.NONCE_SIZE:
        what = f"has {len(nonce)} bytes; {limits.NONCE_SIZE} random ones are required"
        raise InvalidArgument.field(f"{path}.nonce", what)
    time = token.time
    seconds, nanos = time.seconds, time.nanos
    if seconds <= 0 or not 0 <= nanos < 1_000_000_000 or seconds >= _MAX_SECONDS:
        read_time(time, f"{path}.time")
        raise InvalidArgument.field(f"{path}.time", "is missing; the time at which the mutation was made is required")
    return _tuple(WriteToken, (seconds * _US + nanos // 1000, nonce))


def read_time(time: Timestamp, path: str) -> int:
    """Microseconds since 1970; 0 for the zero timestamp."""
    time_us = time.seconds * _US + time.nanos // 1000
    if not 0 <= time.nanos < 1_000_000_000 or not 0 <= time_us <= limits.MAX_TIME_US:
        raise InvalidArgument.field(path, "is not a time between 1970 and the year 9999")
    return time_us


def read_duration(duration: Duration, path: str) -> int:
    """Microseconds, never negative."""
    duration_us = duration.seconds * _US + duration.nanos // 1000
    if duration.nanos < 0 or duration_us < 0 or duration.nanos >= 1_000_000_000:
        raise InvalidArgument.field(path, "is negative or malformed")
    return duration_us


def read_condition(condition: pb.Condition, path: str) -> Condition | None:
    """A condition; None for an empty one. An etag that never was one holds nowhere."""
    kind = condition.WhichOneof("kind")
    if kind is None:
        return None
    if kind == "absent":
        if not condition.absent:
            raise InvalidArgument.field(f"{path}.absent", "is false; true, or no condition, is allowed")
        return Condition(ConditionKind.ABSENT)
    if kind == "older_than":
        version = condition.older_than
        if len(version) != limits.VERSION_SIZE:
            what = f"has {len(version)} bytes; a version has {limits.VERSION_SIZE}"
            raise InvalidArgument.field(f"{path}.older_than", what)
        return _tuple(Condition, (_OLDER_THAN, version))
    if not condition.etag:
        raise InvalidArgument.field(f"{path}.etag", "is empty; absent: true asks for nothing to be there")
    return Condition(ConditionKind.ETAG, _etag_bytes(condition.etag))


def _etag_bytes(etag: str) -> bytes:
    try:
        version = bytes.fromhex(etag)
    except ValueError:
        version = b""
    return version if version.hex() == etag else etag.encode()


def read_selection(selection: pb.Selection, path: str) -> Selection:
    """A selection, its keys sorted and each once."""
    kind = selection.WhichOneof("kind")
    if kind == "keys":
        keys = selection.keys.keys
        if not 1 <= len(keys) <= limits.MAX_KEYS:
            raise InvalidArgument.field(f"{path}.keys", f"has {len(keys)} entries; 1 to {limits.MAX_KEYS} are allowed")
        for index, key in enumerate(keys):
            if len(key) > limits.MAX_ITEM_KEY:
                what = f"has {len(key)} bytes; at most {limits.MAX_ITEM_KEY} are allowed"
                raise InvalidArgument.field(f"{path}.keys.keys[{index}]", what)
        return Selection(tuple(sorted(set(keys))), reverse=selection.reverse)
    if kind == "range":
        start, end = read_range(selection.range, f"{path}.range", limits.MAX_ITEM_KEY)
        return Selection(None, start, end, selection.reverse)
    if kind == "all" and not selection.all:
        raise InvalidArgument.field(f"{path}.all", "is false; true, or nothing, selects all")
    return Selection(reverse=selection.reverse)


def read_range(bounds: pb.KeyRange, path: str, longest: int) -> tuple[bytes, bytes | None]:
    """start and end (None: without end) of a range that is not empty."""
    for name, key in (("start", bounds.start), ("end", bounds.end)):
        if len(key) > longest + 1:
            raise InvalidArgument.field(f"{path}.{name}", f"has {len(key)} bytes; at most {longest + 1} are allowed")
    if bounds.end and bounds.start >= bounds.end:
        raise InvalidArgument.field(path, "is empty: start must lie before end")
    return bounds.start, bounds.end or None


def read_ranges(ranges: Iterable[pb.KeyRange]) -> list[tuple[bytes, bytes | None]]:
    """Ranges of record keys, sorted, those that overlap or touch made one; the whole namespace for none."""
    bounds = [read_range(one, f"ranges[{index}]", limits.MAX_RECORD_KEY) for index, one in enumerate(ranges)]
    if len(bounds) > limits.MAX_SCAN_RANGES:
        what = f"has {len(bounds)} entries; at most {limits.MAX_SCAN_RANGES} are allowed"
        raise InvalidArgument.field("ranges", what)
    merged: list[tuple[bytes, bytes | None]] = []
    for start, end in sorted(bounds, key=lambda one: one[0]) or [(b"", None)]:
        if merged and (merged[-1][1] is None or start <= merged[-1][1]):
            before = merged[-1][1]
            merged[-1] = (merged[-1][0], None if before is None or end is None else max(before, end))
        else:
            merged.append((start, end))
    return merged


def read_notes(notes: Mapping[str, str], path: str) -> dict[str, str]:
    """Attributes or annotations."""
    if not notes:
        return {}
    if len(notes) > limits.MAX_ATTRIBUTES:
        raise InvalidArgument.field(path, f"has {len(notes)} entries; at most {limits.MAX_ATTRIBUTES} are allowed")
    size = sum(len(key.encode()) + len(value.encode()) for key, value in notes.items())
    if size > limits.MAX_ATTRIBUTES_SIZE:
        raise InvalidArgument.field(path, f"has {size} bytes; at most {limits.MAX_ATTRIBUTES_SIZE} are allowed")
    return dict(notes)


def bounded(value: int, default: int, most: int, path: str) -> int:
    """``value``, the default for 0, at most ``most``. Raises InvalidArgument for a negative one."""
    if value < 0:
        raise InvalidArgument.field(path, f"is {value}; 0 (the default) and more are allowed")
    return min(value, most) if value else default


def _read_delete(selection: pb.Selection, path: str, condition: Condition | None) -> Delete:
    selected = read_selection(selection, f"{path}.delete")._replace(reverse=False)
    if condition is not None and (selected.keys is None or len(selected.keys) != 1):
        what = "belongs to one item: name one key, or use record_condition"
        raise InvalidArgument.field(f"{path}.condition", what)
    return Delete(selected, condition)


def _read_expiry(item: pb.Item, token: WriteToken, path: str) -> int:
    if item.WhichOneof("expiration") == "ttl":
        ttl_us = read_duration(item.ttl, f"{path}.ttl")
        if not 1 <= ttl_us <= limits.MAX_TTL_US:
            raise InvalidArgument.field(f"{path}.ttl", "above 0 s and at most 20 years are allowed")
        return token.time_us + ttl_us
    expire_us = read_time(item.expire_time, f"{path}.expire_time")
    if not token.time_us < expire_us <= token.time_us + limits.MAX_TTL_US:
        raise InvalidArgument.field(f"{path}.expire_time", "must lie after token.time, by at most 20 years")
    return expire_us


def check_key(key: bytes, path: str) -> None:
    """Raises InvalidArgument for an item key that cannot be."""
    if len(key) > limits.MAX_ITEM_KEY:
        raise InvalidArgument.field(path, f"has {len(key)} bytes; at most {limits.MAX_ITEM_KEY} are allowed")


def check_content_type(content_type: str, path: str) -> None:
    """Raises InvalidArgument for a media type that cannot be."""
    if len(content_type) > limits.MAX_CONTENT_TYPE or not (content_type.isascii() and content_type.isprintable()):
        what = f"at most {limits.MAX_CONTENT_TYPE} printable ASCII characters are allowed"
        raise InvalidArgument.field(path, what)


def too_large(path: str, size: int, most: int) -> ValueTooLarge:
    """The error of an inline value of ``size`` bytes where ``most`` are allowed."""
    what = f"has {size} bytes; at most {most} are allowed. {_VALUE_HELP}"
    return ValueTooLarge(f"{path}: {what}", violations=[(path, what)])


def _check_distinct(puts: list[Put], positions: list[int]) -> None:
    if len({put.key for put in puts}) == len(puts):
        return
    seen: set[bytes] = set()
    for put, position in zip(puts, positions, strict=True):
        if put.key in seen:
            raise InvalidArgument.field(f"mutations[{position}].put.key", "is put twice; an item is put once a request")
        seen.add(put.key)
