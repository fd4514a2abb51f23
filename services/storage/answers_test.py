"""Receipts that are put together from their bytes are, byte for byte, what the contract's messages serialise to."""

import pytest

from libs.errors.errors import NotFound
from services.storage import answers
from services.storage.domain.model import Cost, Mode, Outcome, Receipt
from services.storage.domain.namespace import Binding, Namespace, Settings
from wellspring.storage.v1 import storage_pb2 as pb

SPACE = Namespace(Settings("a", Mode.LWW), 7, 1)
BOUND = Namespace(Settings("b", Mode.LWW, binding=Binding("page/")), 8, 1)
VERSION = bytes(range(100, 116))
RECEIPTS = [
    Receipt(Outcome.APPLIED, VERSION, 0, 5),
    Receipt(Outcome.APPLIED, bytes(16), 0, 5),
    Receipt(Outcome.APPLIED, b"\xff" * 16, 0, 0),
    Receipt(Outcome.APPLIED, VERSION, 3, 5),
    Receipt(Outcome.APPLIED, VERSION, 0, 5, Cost(1, 2, 3, 4)),
    Receipt(Outcome.APPLIED, b"", 0, 5),
    Receipt(Outcome.REPEATED, VERSION, 0, 5),
    Receipt(Outcome.SUPERSEDED, VERSION, 0, 0),
    Receipt(Outcome.DRY_RUN, VERSION, 2, 0),
]


def built(given: Receipt, space: Namespace, cursor: bytes) -> pb.Receipt:
    """The receipt as a message."""
    receipt = pb.Receipt()
    answers.fill_receipt(receipt, given, space, b"record", cursor)
    return receipt


@pytest.mark.parametrize("space", [SPACE, BOUND])
@pytest.mark.parametrize("cursor", [b"", b"c", bytes(12), b"c" * 24, b"c" * 25, b"c" * 200])
@pytest.mark.parametrize("given", RECEIPTS)
def test_an_answer_has_the_bytes_of_its_message(given: Receipt, space: Namespace, cursor: bytes) -> None:
    receipt = built(given, space, cursor)
    assert answers.mutated(given, space, b"record", cursor) == pb.PutResponse(receipt=receipt).SerializeToString()
    result = pb.BatchMutateResponse.Result(receipt=receipt)
    result.status.SetInParent()
    whole = pb.BatchMutateResponse(results=[result]).SerializeToString()
    assert answers.mutated_one(given, space, b"record", cursor) == whole


def test_results_one_after_the_other_are_the_response() -> None:
    parts = [answers.mutated_one(given, SPACE, b"record", bytes(12)) for given in RECEIPTS]
    parts.insert(2, answers.refused_one(NotFound("not there")))
    results = pb.BatchMutateResponse.FromString(b"".join(parts)).results
    assert [result.status.code for result in results] == [0, 0, 5] + [0] * (len(RECEIPTS) - 2)
    assert [result.receipt for result in results if not result.status.code] == [
        built(given, SPACE, bytes(12)) for given in RECEIPTS
    ]
