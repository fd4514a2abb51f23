"""Typed errors as statuses: what goes on the wire and what is cut."""

from urllib.parse import quote

import pytest
from google.rpc import error_details_pb2  # type: ignore[import-untyped]

from libs.errors import errors
from libs.rpc.errors import DETAILS_KEY, PUSHBACK_KEY, to_failure, to_status, unknown_failure


def test_a_time_to_come_back_is_told_twice_for_unavailable_and_once_for_a_quota() -> None:
    overloaded = to_failure(errors.Unavailable("x", retry_after_s=0.0004))
    assert dict(overloaded.trailers)[PUSHBACK_KEY] == "1"
    quota = to_failure(errors.ResourceExhausted("x", retry_after_s=60))
    assert PUSHBACK_KEY not in dict(quota.trailers)
    assert [packed.TypeName() for packed in to_status(errors.ResourceExhausted("x", retry_after_s=60)).details] == [
        "google.rpc.ErrorInfo",
        "google.rpc.RetryInfo",
    ]
    assert PUSHBACK_KEY not in dict(to_failure(errors.Unavailable("x")).trailers)


def test_many_wrong_fields_still_fit_in_the_trailers() -> None:
    violations = [(f"records[{index}].key", "is empty; 1 to 1024 bytes") for index in range(10_000)]
    failure = to_failure(errors.InvalidArgument("x", violations=violations, metadata={"name": "n" * 100_000}))
    trailer = dict(failure.trailers)[DETAILS_KEY]
    assert len(trailer) <= 4096
    status = to_status(errors.InvalidArgument("x", violations=violations))
    wrong = error_details_pb2.BadRequest()
    status.details[1].Unpack(wrong)
    assert len(wrong.field_violations) > 20


@pytest.mark.parametrize("unit", ["a", " ", "\n", "é", "\U0001f600", "%"])
def test_no_error_is_too_long_for_a_client_to_see(unit: str) -> None:
    text = unit * 20_000
    metadata = {f"key{index}{unit}": text for index in range(100)}
    error = errors.InvalidArgument(text, violations=[(text, text)] * 100, metadata=metadata, reason="R" * 63)
    failure = to_failure(error)
    # As on the wire: the message percent-encoded, the details in base64. Clients take 8 KiB (grpc.max_metadata_size).
    encoded = len(quote(failure.message, safe=" ")) if unit != " " else len(failure.message)
    wire = encoded + 4 * len(dict(failure.trailers)[DETAILS_KEY]) / 3
    assert wire < 8192 - 512
    assert failure.message.startswith(unit * 100) and failure.message.endswith("…")


def test_text_that_is_no_unicode_is_still_an_error_that_can_be_sent() -> None:
    failure = to_failure(errors.NotFound("no file \udcff", metadata={"name": "\udcff"}))
    assert failure.message == "no file ?"


def test_each_unexpected_failure_has_its_own_incident() -> None:
    (first, one), (second, other) = unknown_failure(), unknown_failure()
    assert one != other
    assert first.message == second.message


def test_arguments_are_what_abort_takes() -> None:
    code, text, trailers = to_failure(errors.NotFound("no such thing")).arguments()
    assert (code.name, text) == ("NOT_FOUND", "no such thing")
    assert trailers[0][0] == DETAILS_KEY
