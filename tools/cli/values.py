"""Values as users write them: durations, texts that are UTF-8, versions."""

import datetime
import re
from typing import Any, Final

import click

from libs.ids.ids import VERSION_BYTES

_UNITS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION: Final = re.compile(r"(\d{1,9}(?:\.\d+)?)(ms|s|m|h|d)")


def duration(context: click.Context, option: click.Parameter, text: str | None) -> datetime.timedelta | None:
    """A click callback: 90s, 15m, 12h, 30d."""
    if text is None:
        return None
    match = _DURATION.fullmatch(text)
    if match is None:
        raise click.BadParameter(f"{text!r} is no duration; allowed are numbers with ms, s, m, h or d, such as 15m")
    return datetime.timedelta(seconds=float(match[1]) * _UNITS[match[2]])


def utf8(context: click.Context, option: click.Parameter, given: Any) -> Any:
    """A click callback: refuses text that came as bytes which are not UTF-8."""
    for text in given if isinstance(given, tuple) else (given,):
        try:
            (text or "").encode()
        except UnicodeEncodeError:
            raise click.BadParameter("is not UTF-8; names and texts on the command line are") from None
    return given


def version(context: click.Context, option: click.Parameter, text: str | None) -> bytes | None:
    """A click callback: a version as 32 hexadecimal digits."""
    if text is None:
        return None
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != VERSION_BYTES:
        raise click.BadParameter(f"{text!r} is no version; a version is {2 * VERSION_BYTES} hexadecimal digits")
    return value
