"""Logs: one JSON object a line, no text of an exception, never in the way of the service."""

import io
import json
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, TextIO

import pytest

from libs.telemetry.context import current_call, current_traceparent
from libs.telemetry.logs import Logs, fields
from libs.telemetry.options import LogOptions
from libs.telemetry.trace import TraceContext
from wellspring.bench.v1 import echo_pb2 as pb

log = logging.getLogger("test")


@contextmanager
def logs(stream: TextIO, **options: Any) -> Iterator[None]:
    opened = Logs(LogOptions(**options), "test", stream)
    try:
        yield
    finally:
        opened.close()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_json_object_with_its_fields() -> None:
    stream = io.StringIO()
    with logs(stream):
        request = pb.SayRequest(password="canary")
        log.warning("two\nlines %s", "x", extra=fields(path="/a", request=request, raw=b"123", nested={"a": [b"1"]}))
        log.debug("not shown")
    (line,) = lines(stream)
    assert line["message"] == "two\nlines x"
    assert (line["level"], line["logger"], line["service"]) == ("WARNING", "test", "test")
    assert line["time"].endswith("Z")
    assert (line["path"], line["raw"], line["nested"]) == ("/a", "<3 bytes>", {"a": ["<1 bytes>"]})
    assert line["request"] == {"password": "[redacted]"}


def test_an_exception_shows_type_and_place_and_no_text() -> None:
    stream = io.StringIO()

    def fail() -> None:
        try:
            dict[str, str]()["canary"]
        except KeyError as error:
            raise ValueError("canary") from error

    with logs(stream):
        try:
            fail()
        except ValueError:
            log.exception("failed")
        try:
            os.stat("/nowhere/canary")
        except OSError as error:
            log.error("no file", exc_info=error)
        try:
            raise ExceptionGroup("canary", [RuntimeError("canary")])
        except ExceptionGroup as group:
            log.error("group", extra=fields(error=group))
    first, second, third = lines(stream)
    assert [part["type"] for part in first["exception"]] == ["builtins.ValueError", "builtins.KeyError"]
    assert "logs_test.py" in first["exception"][0]["at"][-1]
    assert second["exception"][0]["errno"] == "2 No such file or directory"
    assert third["error"][0]["of"][0]["type"] == "builtins.RuntimeError"
    assert "canary" not in stream.getvalue()


def test_an_endless_recursion_is_one_readable_line() -> None:
    stream = io.StringIO()

    def again() -> None:
        again()

    with logs(stream):
        try:
            again()
        except RecursionError:
            log.exception("too deep")
    assert len(lines(stream)[0]["exception"][0]["at"]) == 20


def test_the_call_being_served_is_named() -> None:
    stream = io.StringIO()
    place = TraceContext("0" * 31 + "1", "0" * 15 + "2", True)
    token = current_call.set(SimpleNamespace(method="a.B/C", request_id="r1", trace=place))
    try:
        with logs(stream):
            log.info("inside")
        assert current_traceparent() == f"00-{place.trace_id}-{place.span_id}-01"
    finally:
        current_call.reset(token)
    (line,) = lines(stream)
    assert (line["method"], line["request_id"], line["trace_id"]) == ("a.B/C", "r1", place.trace_id)
    assert current_traceparent() is None


class Stuck(io.StringIO):
    """A reader that has stopped reading."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def write(self, text: str) -> int:
        assert self.go.wait(30)
        return super().write(text)


def test_a_reader_that_stops_holds_nobody_up_and_losses_are_told() -> None:
    stream = Stuck()
    opened = Logs(LogOptions(), "test", stream)
    for number in range(12_000):
        log.info("line", extra=fields(number=number))
    stream.go.set()
    # The queue has room for the stop order only when some lines have gone.
    for _ in range(1000):
        if stream.getvalue().count("\n") > 100:
            break
        threading.Event().wait(0.01)
    opened.close()
    written = lines(stream)
    lost = sum(int(line["message"].split()[0]) for line in written if line["message"].endswith("log lines dropped"))
    shown = sum(line["message"] == "line" for line in written)
    assert shown >= 10_000
    assert shown + lost == 12_000


def test_a_stream_that_is_gone_harms_nobody() -> None:
    stream = io.StringIO()
    opened = Logs(LogOptions(), "test", stream)
    stream.close()
    log.info("into the void")
    opened.close()


def test_closing_gives_the_root_logger_back() -> None:
    root = logging.getLogger()
    before = root.handlers[:]
    with logs(io.StringIO()):
        assert root.handlers != before
    assert root.handlers == before


def test_a_line_that_cannot_be_made_shows_no_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    with logs(stream):
        log.info("%d", "canary")
    assert "canary" not in stream.getvalue() + capsys.readouterr().err
