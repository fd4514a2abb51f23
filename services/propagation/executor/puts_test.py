"""Puts as bytes are the messages that they stand for."""

import os
import random

import pytest

from libs.purge.naming import TAGS_ATTRIBUTE
from services.propagation.executor.ports import Output
from services.propagation.executor.puts import MAX_TAGS_BYTES, PackedPuts
from wellspring.storage.v1 import storage_pb2 as pb

VERSION = bytes(range(16))
EDGES = (0, 1, 60, 61, 62, 63, 64, 100, 126, 127, 128, 129, 16_200, 16_383, 16_384, 16_385, 2_097_151, 2_097_152)


def parsed(outputs, namespace="pages", key=b""):
    data = PackedPuts(namespace, key, outputs, VERSION).SerializeToString()
    batch = pb.BatchMutateRequest.FromString(data)
    # Nothing in it that the contract does not know, and nothing twice.
    assert len(data) == batch.ByteSize() and len(batch.requests) == len(outputs)
    return list(batch.requests)


def expected(output, token, namespace="pages", key=b""):
    request = pb.MutateRequest(namespace=namespace, record=output.record, token=token)
    mutation = request.mutations.add()
    if output.body is None:
        mutation.delete.keys.keys.append(key)
    else:
        mutation.put.CopyFrom(pb.Item(key=key, value=output.body, content_type=output.content_type))
        if output.tags:
            mutation.put.attributes[TAGS_ATTRIBUTE] = " ".join(output.tags)
    mutation.condition.older_than = VERSION
    return request


def check(outputs, **where):
    requests = parsed(outputs, **where)
    for request, output in zip(requests, outputs, strict=True):
        assert request == expected(output, request.token, **where)
        assert len(request.token.nonce) == 16
    assert len({request.token.nonce for request in requests}) == len(outputs)
    assert len({request.token.time.ToNanoseconds() for request in requests}) <= 1


@pytest.mark.parametrize("size", EDGES)
def test_bodies_of_every_length_of_a_length(size):
    check([Output(b"a/page", b"x" * size, "text/html", ())])


@pytest.mark.parametrize("key", [b"", b"k", b"k" * 1024])
@pytest.mark.parametrize("namespace", ["p", "n" * 128])
def test_names_of_every_length(namespace, key):
    outputs = [
        Output(b"r" * length, b"body", content_type, ())
        for length in (1, 127, 128, 1024)
        for content_type in ("", "text/html; charset=utf-8", "c" * 128)
    ]
    check(outputs, namespace=namespace, key=key)


def test_mixed_with_pages_that_have_tags_or_are_gone():
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    rng = random.Random(seed)
    outputs = [
        Output(
            f"r/{n}".encode(),
            rng.choice((None, b"", os.urandom(rng.randrange(40_000)))),
            "text/html",
            rng.choice(((), ("a", "b"), ("a",))),
        )
        for n in range(300)
    ]
    check(outputs)
    check([])


def test_tags_are_cut_off_between_two_of_them():
    tags = tuple(f"tag-{n:05}" for n in range(1_000))
    (request,) = parsed([Output(b"r", b"x", "", tags)])
    kept = request.mutations[0].put.attributes[TAGS_ATTRIBUTE]
    assert MAX_TAGS_BYTES - 10 <= len(kept) <= MAX_TAGS_BYTES and tuple(kept.split()) == tags[: len(kept.split())]
