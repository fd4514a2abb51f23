"""The requests that store outputs: plain pages of one media type in columns, all others each for itself.

A request of columns costs executor and store a third of one with a message for each page.
"""

import os
import time
from collections.abc import Sequence

from libs.purge.naming import TAGS_ATTRIBUTE
from services.propagation.executor.ports import Output
from wellspring.storage.v1 import storage_pb2 as pb

MAX_TAGS_BYTES = 3 * 1024
"""Of the 4 KiB that an item's attributes may have together."""
NONCE_BYTES = 16
BATCH_ITEMS = 1_000
BATCH_BYTES = 2 << 20
"""One request's share of the 4 MiB that a message may have."""
LEAST_ALIKE = 8
"""Pages of a media type that are worth a request of their own."""
_ROUND_BYTES = 1_024
"""About what is stored with a body."""


def in_columns(namespace: str, item_key: bytes, outputs: Sequence[Output], version: bytes) -> pb.PutManyRequest:
    """Puts of plain pages of one media type, each over what is older than `version`."""
    request = pb.PutManyRequest(
        namespace=namespace,
        records=[output.record for output in outputs],
        values=[output.body or b"" for output in outputs],
        item_key=item_key,
        content_type=outputs[0].content_type,
        condition=pb.Condition(older_than=version),
    )
    request.token.time.FromNanoseconds(time.time_ns())
    request.token.nonce = os.urandom(NONCE_BYTES)
    return request


def each(namespace: str, item_key: bytes, outputs: Sequence[Output], version: bytes) -> pb.BatchMutateRequest:
    """A put or a delete for each output, over what is older than `version`.

    Copies of one prototype: building each message from its parts costs three times as much.
    """
    prototype = pb.MutateRequest(namespace=namespace)
    prototype.token.time.FromNanoseconds(time.time_ns())
    mutation = prototype.mutations.add()
    mutation.condition.older_than = version
    mutation.put.key = item_key
    nonces = os.urandom(NONCE_BYTES * len(outputs))
    batch = pb.BatchMutateRequest()
    for number, output in enumerate(outputs):
        request = batch.requests.add()
        request.CopyFrom(prototype)
        request.record = output.record
        request.token.nonce = nonces[NONCE_BYTES * number : NONCE_BYTES * (number + 1)]
        if output.body is None:
            request.mutations[0].delete.keys.keys.append(item_key)
            continue
        item = request.mutations[0].put
        item.value = output.body
        item.content_type = output.content_type
        if output.tags:
            item.attributes[TAGS_ATTRIBUTE] = _joined(output.tags)
    return batch


def pieces(outputs: Sequence[Output]) -> list[tuple[bool, list[int]]]:
    """The outputs' places, by the requests that store them, and whether each of these is one of columns.

    Of two outputs with one record the first is stored first.
    """
    alike: dict[str, list[int]] = {}
    others: list[int] = []
    records: set[bytes] = set()
    for at, output in enumerate(outputs):
        if output.body and not output.tags and output.record not in records:
            alike.setdefault(output.content_type, []).append(at)
        else:
            others.append(at)
        records.add(output.record)
    for content_type in [one for one, places in alike.items() if len(places) < LEAST_ALIKE]:
        others += alike.pop(content_type)
    columns = [(True, piece) for places in alike.values() for piece in _bounded(outputs, places)]
    return columns + [(False, piece) for piece in _bounded(outputs, sorted(others))]


def _bounded(outputs: Sequence[Output], places: Sequence[int]) -> list[list[int]]:
    """As many places in a piece as a request may hold."""
    found: list[list[int]] = []
    size = BATCH_BYTES
    for at in places:
        own = len(outputs[at].body or b"") + _ROUND_BYTES
        size += own
        if size > BATCH_BYTES or len(found[-1]) == BATCH_ITEMS:
            found.append([])
            size = own
        found[-1].append(at)
    return found


def _joined(tags: Sequence[str]) -> str:
    text = " ".join(dict.fromkeys(tags))
    # Whole tags only; a page with more of them is purged by its path all the same.
    return text if len(text) <= MAX_TAGS_BYTES else text[: text.rfind(" ", 0, MAX_TAGS_BYTES)]
