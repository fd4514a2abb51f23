"""What a command prints: for people on a terminal, or JSON lines for programs; never both.

Answers go to standard output, everything about the work itself (progress, hints) to standard error.
"""

import datetime
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import click
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.table import Table

Plain = Mapping[str, Any]
Row = tuple[Plain, Sequence[str]]
"""One answer: for programs, and its cells for people."""


_HANDLES: Final = ("id", "change", "handle")


class Output:
    """Where a command's answer goes; `as_json` decides for whom it is."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json

    def console(self, *, stderr: bool = False) -> Console:
        """For rich output; plain text when it is not a terminal."""
        stream = sys.stderr if stderr else sys.stdout
        width = None if stream.isatty() else 160
        return Console(file=stream, highlight=False, width=width, soft_wrap=False)

    def object(self, value: Plain, text: str | None = None) -> None:
        """One answer: `text` for people (its fields as lines when it is None)."""
        if self.as_json:
            click.echo(json.dumps(value, ensure_ascii=False))
        elif text is not None:
            click.echo(text)
        else:
            self._fields(value)

    def line(self, text: str) -> None:
        """A line of the answer, for people only."""
        if not self.as_json:
            click.echo(text)

    def note(self, text: str) -> None:
        """About the work, for people only."""
        if not self.as_json:
            click.echo(click.style(text, dim=True), err=True)

    def table(self, columns: Sequence[str], rows: Iterable[Row], nothing: str) -> int:
        """Many answers: a table for people (`nothing` when there is no row), an object a line for programs.

        Columns that begin with ">" are aligned to the right. Returns how many rows there were.
        """
        count = 0
        table = Table(box=None, header_style="bold", pad_edge=False)
        for column in columns:
            justify: Any = "right" if column.startswith(">") else "left"
            # What one copies to the next command stays in one piece.
            table.add_column(column.removeprefix(">"), justify=justify, overflow="fold", no_wrap=column in _HANDLES)
        for value, cells in rows:
            count += 1
            if self.as_json:
                click.echo(json.dumps(value, ensure_ascii=False))
            else:
                table.add_row(*(escape(cell) for cell in cells))
        if not self.as_json:
            if count:
                self.console().print(table)
            else:
                click.echo(nothing)
        return count

    def _fields(self, value: Plain) -> None:
        width = max((len(key) for key in value), default=0)
        for key, given in value.items():
            shown = json.dumps(given, ensure_ascii=False) if isinstance(given, dict | list | bool) else given
            click.echo(f"{click.style(key.ljust(width), bold=True)}  {shown}")


def escape(text: str) -> str:
    """Text as it is: without what a terminal would obey, and without rich's own markup."""
    shown = "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)
    return shown.replace("[", "\\[")


def plain(message: Message) -> dict[str, Any]:
    """A message as JSON can hold it: names of enumerations, ISO times, seconds, hexadecimal bytes; set fields only."""
    return {field.name: _value(field, value) for field, value in message.ListFields()}


def _value(field: Any, value: Any) -> Any:
    if field.is_repeated:
        if isinstance(value, Mapping):
            return {str(key): _single(None, one) for key, one in value.items()}
        return [_single(field, one) for one in value]
    return _single(field, value)


def _single(field: Any, value: Any) -> Any:
    if isinstance(value, Timestamp):
        return iso(value)
    if isinstance(value, Duration):
        return value.ToNanoseconds() / 1e9
    if isinstance(value, Message):
        return plain(value)
    if isinstance(value, bytes):
        return value.hex()
    if field is not None and field.enum_type is not None:
        return field.enum_type.values_by_number[value].name
    return value


def iso(stamp: Timestamp) -> str:
    """A time in UTC, ISO 8601 to the millisecond; "" for none."""
    if not stamp.seconds and not stamp.nanos:
        return ""
    text: str = stamp.ToDatetime(datetime.UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def textual(name: str, value: bytes) -> dict[str, str]:
    """Bytes under `name` when they are text, else as hexadecimal digits under `name`_hex."""
    try:
        return {name: value.decode()}
    except UnicodeDecodeError:
        return {f"{name}_hex": value.hex()}


def shown(value: bytes, limit: int = 80) -> str:
    """Bytes for a person's eye: text where they are text, cut at `limit` characters."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = "0x" + value.hex()
    text = text.replace("\n", "⏎")
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def counted(count: int, what: str) -> str:
    """A count and its noun: 1 item, 2 items."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def size(count: float) -> str:
    """Bytes in a unit that reads well."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError("the last unit takes all")
