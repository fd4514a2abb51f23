"""PutMany: many records' puts that are alike, read and answered in columns, with no message for each."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

from libs.errors.errors import InvalidArgument, WellspringError
from libs.rpc.errors import to_status
from services.storage import requests
from services.storage.domain import limits
from services.storage.domain.commands import put_digests
from services.storage.domain.model import ConditionKind, Outcome, Put, Receipt, WriteToken
from services.storage.domain.namespace import Namespace
from services.storage.store.alike import Alike
from services.storage.store.interface import Write
from wellspring.storage.v1 import storage_pb2 as pb

_APPLIED: Final = Outcome.APPLIED

Refused = dict[int, WellspringError]
"""Why puts were refused, by their index in the request."""


def read(request: pb.PutManyRequest, space: Namespace, reader: requests.Reader) -> tuple[Sequence[Write], Refused]:
    """The writes, each that of a put of its own with the request's token, without those whose record or value cannot
    be. Raises InvalidArgument for what is wrong in all of them."""
    records, values = list(request.records), list(request.values)
    _check_columns(records, values)
    token = requests.read_token(request.token)
    condition = requests.read_condition(request.condition, "condition") if request.HasField("condition") else None
    if condition is not None and condition.kind is ConditionKind.ETAG:
        raise InvalidArgument.field("condition.etag", "is of one item: put that by itself")
    requests.check_consistency(request.consistency)
    key, content_type = request.item_key, request.content_type
    requests.check_key(key, "item_key")
    requests.check_content_type(content_type, "content_type")
    refused = _refused(records, values, space, reader.max_value)
    if refused:
        records = [record for index, record in enumerate(records) if index not in refused]
        values = [value for index, value in enumerate(values) if index not in refused]
    pattern = Put(key, b"", content_type, condition=condition)
    writes = Alike(space, token, pattern, records, values, put_digests(pattern, values))
    return (_expiring(writes, reader) if space.settings.retention.default_ttl_us else writes), refused


def answer(results: Sequence[Receipt | WellspringError], refused: Refused) -> tuple[pb.PutManyResponse, Receipt | None]:
    """The answer without its cookie, and the receipt of the newest change, if one was accepted. ``results`` are of
    those that were not ``refused`` before."""
    newest: Receipt | None = None
    outcomes = bytearray(len(results) + len(refused))
    told = pb.PutManyResponse()
    done = iter(results)
    for index in range(len(outcomes)):
        given = refused[index] if refused and index in refused else next(done)
        if isinstance(given, Receipt):
            outcomes[index] = 1 if given[0] is _APPLIED else given[0].value
            if newest is None or given[3] > newest[3]:
                newest = given
        else:
            told.refusals.add(index=index).status.CopyFrom(to_status(given))
    told.outcomes = bytes(outcomes)
    return told, newest


def _expiring(writes: Alike, reader: requests.Reader) -> list[Write]:
    """With the namespace's default expiry: one token, yet many expiries, for they are spread by the record."""
    made = []
    for space, command in writes:
        own = WriteToken(
            command.token.time_us, blake2b(command.record, key=command.token.nonce, digest_size=16).digest()
        )
        made.append(Write(space, command._replace(puts=reader.with_ttl(command.puts, own, space))))
    return made


def _check_columns(records: list[bytes], values: list[bytes]) -> None:
    if not 1 <= len(records) <= limits.MAX_BATCH:
        raise InvalidArgument.field("records", f"has {len(records)} entries; 1 to {limits.MAX_BATCH} are allowed")
    if len(values) != len(records):
        raise InvalidArgument.field("values", f"has {len(values)} entries for {len(records)} records")
    if len(set(records)) < len(records):
        seen: set[bytes] = set()
        for index, record in enumerate(records):
            if record in seen:
                raise InvalidArgument.field(f"records[{index}]", "is there twice; a record is put once a request")
            seen.add(record)


def _refused(records: list[bytes], values: list[bytes], space: Namespace, max_value: int) -> Refused:
    """Those whose own record or value cannot be."""
    sizes = [len(record) for record in records]
    bound = space.settings.binding is not None
    if not bound and min(sizes) >= 1 and max(sizes) <= limits.MAX_RECORD_KEY and max(map(len, values)) <= max_value:
        return {}
    refused: Refused = {}
    for index, (record, value) in enumerate(zip(records, values, strict=True)):
        try:
            requests.check_record(record, space, f"records[{index}]")
            if len(value) > max_value:
                raise requests.too_large(f"values[{index}]", len(value), max_value)
        except WellspringError as error:
            refused[index] = error
    return refused
