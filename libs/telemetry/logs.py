"""Logs: one JSON object a line, on standard error, written by a thread of their own behind a bounded queue.

An exception is shown by its type and the places it passed, never by its text: the text of an exception that nobody
expected may carry anything, a token as well as a page. What belongs in a log is put there by name: ``log.info("opened",
extra=fields(path=p))``.
"""

import datetime
import json
import logging
import logging.handlers
import os
import queue
import sys
import traceback
from collections.abc import Iterator
from typing import Any, TextIO

from google.protobuf.message import Message

from libs.telemetry.context import current_call
from libs.telemetry.options import LogOptions
from libs.telemetry.redact import redact

_QUEUE_LINES = 10_000
"""Lines waiting for a reader that is slow; beyond them lines are dropped, counted and reported."""
_LONGEST_VALUE = 2048
_MOST_FRAMES = 20
"""Of one exception, the innermost: an endless recursion has a thousand, all alike."""
_FIELDS = "wellspring_fields"


def fields(**values: Any) -> dict[str, Any]:
    """The ``extra`` of a log call: named values beside the message; protobuf messages are redacted."""
    return {_FIELDS: values}


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON: time (UTC), level, logger, message, service, pid, the call being served, fields."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """The line, without a newline at its end."""
        at = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        line: dict[str, Any] = {
            "time": at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": _cut(record.getMessage()),
            "service": self._service,
            "pid": record.process,
        }
        call = current_call.get()
        if call is not None:
            line |= {"method": call.method, "request_id": call.request_id, "trace_id": call.trace.trace_id}
        for name, value in getattr(record, _FIELDS, {}).items():
            line[name] = _plain(value)
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = list(describe(record.exc_info[1]))
        return json.dumps(line, ensure_ascii=False, separators=(",", ":"))


def describe(error: BaseException) -> Iterator[dict[str, Any]]:
    """``error`` and what led to it, outermost first: type and the places it passed, innermost last; no text."""
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen and len(seen) < 8:
        seen.add(id(at))
        name = f"{type(at).__module__}.{type(at).__qualname__}"
        shown: dict[str, Any] = {"type": name, "at": _places(at)}
        if isinstance(at, OSError) and at.errno is not None:
            shown["errno"] = f"{at.errno} {os.strerror(at.errno)}"
        if isinstance(at, BaseExceptionGroup):
            shown["of"] = [part for inner in at.exceptions[:8] for part in describe(inner)]
        yield shown
        at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)


def _places(error: BaseException) -> list[str]:
    frames = traceback.extract_tb(error.__traceback__, limit=-_MOST_FRAMES)
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]


def _plain(value: Any) -> Any:
    if isinstance(value, Message):
        return redact(value)
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if isinstance(value, BaseException):
        return list(describe(value))
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, dict):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(inner) for inner in value]
    return _cut(str(value))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}... ({len(text)} characters)"


class _Lines(logging.handlers.QueueHandler):
    """Formats in the caller's task, which knows its call, and leaves the writing to the other thread."""

    def __init__(self, lines: "queue.Queue[Any]", formatter: logging.Formatter) -> None:
        super().__init__(lines)
        self.setFormatter(formatter)
        self.dropped = 0

    def prepare(self, record: logging.LogRecord) -> Any:
        return self.format(record)

    def enqueue(self, record: Any) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1


class _Writer(logging.handlers.QueueListener):
    """Writes the lines; a stream that is gone takes nothing else with it."""

    def __init__(self, lines: "queue.Queue[Any]", source: _Lines, stream: TextIO) -> None:
        super().__init__(lines)
        self._source = source
        self._stream = stream

    def handle(self, record: Any) -> None:
        lost, self._source.dropped = self._source.dropped, 0
        text = f"{record}\n"
        if lost:
            text += json.dumps({"level": "WARNING", "logger": __name__, "message": f"{lost} log lines dropped"}) + "\n"
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            self._source.dropped += lost + 1


class Logs:
    """The logs of a process. ``close`` writes what is waiting and gives the root logger back."""

    def __init__(self, options: LogOptions, service: str, stream: TextIO | None = None) -> None:
        lines: queue.Queue[Any] = queue.Queue(_QUEUE_LINES)
        self._handler = _Lines(lines, JsonFormatter(service))
        self._writer = _Writer(lines, self._handler, sys.stderr if stream is None else stream)
        # logging's own report of a line it could not make shows the arguments: whatever they are.
        logging.raiseExceptions = False
        root = logging.getLogger()
        self._before = (root.handlers[:], root.level)
        root.handlers[:] = [self._handler]
        root.setLevel(options.level)
        # grpc logs the text of exceptions it meets; the pipeline has already said what may be said.
        logging.getLogger("grpc").setLevel(logging.CRITICAL)
        self._writer.start()

    def close(self) -> None:
        """Writes what is waiting. Blocks until it is written."""
        root = logging.getLogger()
        root.handlers[:], level = self._before[0], self._before[1]
        root.setLevel(level)
        self._writer.stop()
