"""A batch of puts as bytes on the wire: the BatchMutateRequest that they are, serialised.

To build the messages of millions of pages, and to serialise them, would cost more than to ask for them; so a plain put
is written field by field (https://protobuf.dev/programming-guides/encoding), and its body is copied once. Others, with
tags or of pages that are gone, are messages as usual: requests that follow one another are the batch, whoever wrote
them.
"""

import os
import time
from collections.abc import Sequence
from functools import lru_cache

from libs.purge.naming import TAGS_ATTRIBUTE
from services.propagation.executor.ports import Output
from wellspring.storage.v1 import storage_pb2 as pb

MAX_TAGS_BYTES = 3 * 1024
"""Of the 4 KiB that an item's attributes may have together."""
NONCE_BYTES = 16

_LENGTH_DELIMITED = 2
_REQUESTS = pb.BatchMutateRequest.REQUESTS_FIELD_NUMBER
_RECORD = pb.MutateRequest.RECORD_FIELD_NUMBER
_TOKEN = pb.MutateRequest.TOKEN_FIELD_NUMBER
_MUTATIONS = pb.MutateRequest.MUTATIONS_FIELD_NUMBER
_PUT = pb.Mutation.PUT_FIELD_NUMBER
_VALUE = pb.Item.VALUE_FIELD_NUMBER
_NONCE = pb.WriteToken.NONCE_FIELD_NUMBER


class PackedPuts:
    """One put or delete for each output, each only over what is older than `version`; a request of its own each, with a
    token made now."""

    def __init__(self, namespace: str, item_key: bytes, outputs: Sequence[Output], version: bytes) -> None:
        prototype = pb.MutateRequest(namespace=namespace)
        prototype.token.time.FromNanoseconds(time.time_ns())
        mutation = prototype.mutations.add()
        mutation.condition.older_than = version
        mutation.put.key = item_key
        nonces = os.urandom(NONCE_BYTES * len(outputs))
        parts: list[bytes] = []
        writer = _Writer(prototype)
        for at, output in enumerate(outputs):
            nonce = nonces[NONCE_BYTES * at : NONCE_BYTES * (at + 1)]
            if not output.body or output.tags:
                parts.append(_as_message(prototype, output, nonce))
            else:
                writer.write(parts, output.record, output.body, output.content_type, nonce)
        self._data = b"".join(parts)

    def SerializeToString(self) -> bytes:
        """The bytes of the BatchMutateRequest."""
        return self._data


class _Writer:
    """Writes puts that are like the prototype but for their records, bodies, media types and nonces."""

    def __init__(self, prototype: pb.MutateRequest) -> None:
        mutation = prototype.mutations[0]
        self._key = pb.Item(key=mutation.put.key).SerializeToString()
        self._condition = pb.Mutation(condition=mutation.condition).SerializeToString()
        # Namespace and token do not differ in length, so that all but the nonce stands.
        time_part = pb.WriteToken(time=prototype.token.time).SerializeToString() + _head(_NONCE, NONCE_BYTES)
        namespace = pb.MutateRequest(namespace=prototype.namespace).SerializeToString()
        self._before = namespace + _head(_TOKEN, len(time_part) + NONCE_BYTES) + time_part

    def write(self, parts: list[bytes], record: bytes, body: bytes, content_type: str, nonce: bytes) -> None:
        """Adds one request of the batch to `parts`."""
        key, condition, before = self._key, self._condition, self._before
        value, kind, named = _head(_VALUE, len(body)), _content_type(content_type), _head(_RECORD, len(record))
        item_bytes = len(key) + len(value) + len(body) + len(kind)
        put = _head(_PUT, item_bytes)
        mutation_bytes = len(put) + item_bytes + len(condition)
        mutation = _head(_MUTATIONS, mutation_bytes)
        size = len(before) + NONCE_BYTES + len(named) + len(record) + len(mutation) + mutation_bytes
        parts += (
            _head(_REQUESTS, size),
            before,
            nonce,
            named,
            record,
            mutation,
            put,
            key,
            value,
            body,
            kind,
            condition,
        )


@lru_cache(maxsize=4096)
def _head(field: int, size_bytes: int) -> bytes:
    """What stands before a field of so many bytes."""
    left = size_bytes
    head = bytearray([field << 3 | _LENGTH_DELIMITED])
    while left > 0x7F:
        head.append(left & 0x7F | 0x80)
        left >>= 7
    head.append(left)
    return bytes(head)


@lru_cache(maxsize=256)
def _content_type(content_type: str) -> bytes:
    return pb.Item(content_type=content_type).SerializeToString()


def _as_message(prototype: pb.MutateRequest, output: Output, nonce: bytes) -> bytes:
    batch = pb.BatchMutateRequest()
    request = batch.requests.add()
    request.CopyFrom(prototype)
    request.record = output.record
    request.token.nonce = nonce
    (mutation,) = request.mutations
    if output.body is None:
        mutation.delete.keys.keys.append(mutation.put.key)
    else:
        mutation.put.value = output.body
        mutation.put.content_type = output.content_type
        if output.tags:
            mutation.put.attributes[TAGS_ATTRIBUTE] = _joined(output.tags)
    return batch.SerializeToString()


def _joined(tags: Sequence[str]) -> str:
    text = " ".join(dict.fromkeys(tags))
    # Whole tags only; a page with more of them is purged by its path all the same.
    return text if len(text) <= MAX_TAGS_BYTES else text[: text.rfind(" ", 0, MAX_TAGS_BYTES)]
