"""Plain pages alike go to the store in columns, all others each for itself; a refusal is told of its page alone."""

import asyncio
from typing import Any

import pytest

from libs.purge.naming import TAGS_ATTRIBUTE
from services.propagation.executor.adapters import GrpcDocuments
from services.propagation.executor.ports import Output
from services.propagation.executor.puts import BATCH_BYTES, BATCH_ITEMS, LEAST_ALIKE, MAX_TAGS_BYTES
from wellspring.storage.v1 import storage_pb2 as pb

VERSION = bytes(range(16))


class Store:
    """Takes calls down; refuses the records in `bad`."""

    def __init__(self, *bad: bytes) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.bad = bad

    async def unary(self, service: Any, method: str, request: Any, answer: Any, timeout_s: Any) -> Any:
        """As the caller's."""
        assert service.full_name == "wellspring.storage.v1.Storage"
        asked: Any
        given: Any
        if method == "PutMany":
            asked = pb.PutManyRequest.FromString(request.SerializeToString())
            given = pb.PutManyResponse(outcomes=bytes(record not in self.bad for record in asked.records))
            for index, record in enumerate(asked.records):
                if record in self.bad:
                    given.refusals.add(index=index).status.message = f"no {record.decode()}"
        else:
            asked = pb.BatchMutateRequest.FromString(request.SerializeToString())
            given = pb.BatchMutateResponse()
            for one in asked.requests:
                status = given.results.add().status
                if one.record in self.bad:
                    status.code, status.message = 3, f"no {one.record.decode()}"
        self.calls.append((method, asked))
        assert isinstance(given, answer)
        return given


def put(store: Store, outputs: list[Output]) -> list[str | None]:
    caller: Any = store
    return asyncio.run(GrpcDocuments(caller).put("pages", b"k", outputs, VERSION))


def plain(count: int, size: int = 10) -> list[Output]:
    return [Output(b"r%d" % number, b"x" * size, "text/html", ()) for number in range(count)]


def test_pages_alike_are_one_request_of_columns() -> None:
    store, outputs = Store(b"r3", b"r7"), plain(10)
    assert put(store, outputs) == [f"no r{n}" if n in (3, 7) else None for n in range(10)]
    ((method, asked),) = store.calls
    assert method == "PutMany" and len(asked.token.nonce) == 16 and asked.token.time.seconds > 1_700_000_000
    assert list(zip(asked.records, asked.values, strict=True)) == [(one.record, one.body) for one in outputs]
    assert (asked.namespace, asked.item_key, asked.content_type) == ("pages", b"k", "text/html")
    assert asked.condition.older_than == VERSION
    put(store, outputs)
    assert store.calls[1][1].token.nonce != asked.token.nonce


@pytest.mark.parametrize(
    "other",
    [
        Output(b"other", b"x", "text/html", ("tag",)),
        Output(b"other", b"x", "text/plain", ()),
        Output(b"other", None, "text/html", ()),
        Output(b"other", b"", "text/html", ()),
        Output(b"r0", b"again", "text/html", ()),
    ],
)
def test_others_are_each_for_themselves_and_hold_up_no_plain_page(other: Output) -> None:
    store, outputs = Store(b"r2"), [*plain(5), other, *plain(20)[5:]]
    assert put(store, outputs) == ["no r2" if at == 2 else None for at in range(21)]
    (columns, many), (each, asked) = store.calls
    assert columns == "PutMany" and list(many.records) == [one.record for one in plain(20)]
    assert each == "BatchMutate" and [one.record for one in asked.requests] == [other.record]
    (mutation,) = asked.requests[0].mutations
    assert mutation.condition.older_than == VERSION and len(asked.requests[0].token.nonce) == 16
    if other.body is None:
        assert list(mutation.delete.keys.keys) == [b"k"]
    else:
        kept = (mutation.put.key, mutation.put.value, mutation.put.content_type, dict(mutation.put.attributes))
        tags = {TAGS_ATTRIBUTE: "tag"} if other.tags else {}
        assert kept == (b"k", other.body, other.content_type, tags)


def test_a_refusal_is_told_of_its_own_page_wherever_it_was_put() -> None:
    store = Store(b"r1", b"t1", b"g0")
    mixed = [
        one
        for at in range(10)
        for one in (
            Output(b"r%d" % at, b"x", "text/html", ()),
            Output(b"t%d" % at, b"x", "text/plain", ()),
            Output(b"g%d" % at, None, "text/html", ()),
        )
    ]
    told = put(store, mixed)
    bad = ("r1", "t1", "g0")
    assert told == [f"no {one.record.decode()}" if one.record.decode() in bad else None for one in mixed]
    assert [method for method, _ in store.calls] == ["PutMany", "PutMany", "BatchMutate"]


def test_few_pages_of_a_type_are_not_worth_a_request_of_their_own() -> None:
    store = Store()
    outputs = [Output(b"r%d" % at, b"x", f"text/t{at % 3}", ()) for at in range(3 * (LEAST_ALIKE - 1))]
    assert put(store, outputs) == [None] * len(outputs)
    ((method, asked),) = store.calls
    assert method == "BatchMutate" and [one.record for one in asked.requests] == [one.record for one in outputs]
    assert len({one.token.nonce for one in asked.requests}) == len(outputs)


def test_of_two_pages_with_one_record_the_first_is_first() -> None:
    first, second = Output(b"r", b"first", "text/html", ()), Output(b"r", b"second", "text/html", ())
    for outputs in ([first, second], [*plain(20), first, second], [Output(b"r", None, "", ()), *plain(20), second]):
        store = Store()
        put(store, outputs)
        order = [
            record
            for method, asked in store.calls
            for record in (asked.records if method == "PutMany" else [one.record for one in asked.requests])
        ]
        assert order.count(b"r") == 2 and len(order) == len(outputs)
        bodies = [value for method, asked in store.calls if method == "PutMany" for value in asked.values]
        assert b"second" not in bodies


def test_tags_are_cut_off_between_two_of_them() -> None:
    tags = tuple(f"tag-{n:05}" for n in range(1_000))
    store = Store()
    put(store, [Output(b"r", b"x", "", tags)])
    kept = store.calls[0][1].requests[0].mutations[0].put.attributes[TAGS_ATTRIBUTE]
    assert MAX_TAGS_BYTES - 10 <= len(kept) <= MAX_TAGS_BYTES and tuple(kept.split()) == tags[: len(kept.split())]


def test_nothing_to_put_is_no_request() -> None:
    store = Store()
    assert put(store, []) == [] and not store.calls


def test_each_request_keeps_to_its_items_and_bytes() -> None:
    store = Store(b"r1500")
    told = put(store, plain(BATCH_ITEMS + 700))
    assert len(told) == BATCH_ITEMS + 700 and [at for at, one in enumerate(told) if one] == [1500]
    assert [len(asked.records) for _, asked in store.calls] == [BATCH_ITEMS, 700]
    store = Store()
    put(store, plain(LEAST_ALIKE, BATCH_BYTES // 2))
    assert [len(asked.records) for _, asked in store.calls] == [1] * LEAST_ALIKE
    assert all(asked.ByteSize() <= BATCH_BYTES for _, asked in store.calls)
