"""A service's log line (JSON) as a person reads it: time, process, message, the fields that tell something."""

import json
from typing import Any, Final

import click

_COLOURS: Final = {
    "storage": "cyan",
    "session": "magenta",
    "propagation": "green",
    "gateway": "blue",
    "executor": "yellow",
    "auditor": "bright_yellow",
    "platform": "white",
}
_LEVELS: Final = {"DEBUG": 0, "INFO": 1, "WARNING": 2, "ERROR": 3, "CRITICAL": 3}
_STANDARD: Final = frozenset(
    ("time", "level", "logger", "message", "service", "pid", "request_id", "trace_id", "exception", "identity")
)
_NAME_WIDTH: Final = 12
_LONG_CALLS: Final = ("/Lease", "/AwaitVisible", "/Watch", "/WatchChange", "/WatchChanges", "/WatchRevocations")


def readable(process: str, line: str, least: str = "INFO") -> str | None:
    """The line for a terminal; None for one below the level `least` or without news."""
    try:
        told = json.loads(line)
    except ValueError:
        told = None
    if not isinstance(told, dict):
        return _line("", process, line, "INFO") if line.strip() else None
    if told.get("ready") is True or _is_long_poll(told):
        return None
    level = str(told.get("level", "INFO"))
    if _LEVELS.get(level, 1) < _LEVELS.get(least, 1):
        return None
    more = [f"{key}={_shown(value)}" for key, value in told.items() if key not in _STANDARD]
    more += [str(one.get("type", "")) for one in told.get("exception", [])[:1] if isinstance(one, dict)]
    return _line(str(told.get("time", ""))[11:19], process, " ".join([str(told.get("message", "")), *more]), level)


def event(process: str, text: str, *, bad: bool = False) -> str:
    """Something that the platform says of a process."""
    return _line("", process, text, "WARNING" if bad else "INFO")


def _is_long_poll(told: dict[str, Any]) -> bool:
    """A call that waited for work to come and went well is slow by design."""
    return (
        told.get("message") == "call"
        and str(told.get("method", "")).endswith(_LONG_CALLS)
        and told.get("code") in ("OK", "CANCELLED")
    )


def _line(time: str, process: str, text: str, level: str) -> str:
    name = click.style(process.ljust(_NAME_WIDTH), fg=_COLOURS.get(process.partition("-")[0], "white"))
    safe = "".join(char if char.isprintable() else "·" for char in text)
    if _LEVELS.get(level, 1) >= _LEVELS["WARNING"]:
        safe = click.style(safe, fg="red" if level != "WARNING" else "yellow")
    return f"{click.style(time.ljust(8), dim=True)} {name} {safe}"


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
