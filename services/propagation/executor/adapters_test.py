"""Plain pages alike go to the store in columns, all others each for itself; a refusal is told of its page alone."""

import asyncio
from typing import Any

import pytest

from services.propagation.executor.adapters import BATCH_BYTES, BATCH_ITEMS, GrpcDocuments
from services.propagation.executor.ports import Output
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
def test_others_are_each_for_themselves(other: Output) -> None:
    store = Store(b"r2")
    assert put(store, [*plain(4), other]) == [None, None, "no r2", None, None]
    ((method, asked),) = store.calls
    assert method == "BatchMutate" and [one.record for one in asked.requests][4] == other.record


def test_each_request_keeps_to_its_items_and_bytes() -> None:
    store = Store(b"r1500")
    told = put(store, plain(BATCH_ITEMS + 700))
    assert len(told) == BATCH_ITEMS + 700 and [at for at, one in enumerate(told) if one] == [1500]
    assert [len(asked.records) for _, asked in store.calls] == [BATCH_ITEMS, 700]
    store = Store()
    put(store, plain(5, BATCH_BYTES // 2))
    assert [len(asked.records) for _, asked in store.calls] == [1] * 5
    assert all(asked.ByteSize() <= BATCH_BYTES for _, asked in store.calls)
