"""Changes that a rule makes of an event: what another system tells becomes what the engine propagates.

The body of a request to /sys/changes is a change or a list of them: `resource`, `version`, and if they are not to be
what stands here, `aspects` (content), `id` (rule, event and number in the event's actions), `lane`, `cause` (kind
"event", the event's request id), `attributes`.

A version is a whole number (or its digits), 32 hexadecimal digits, or a mapping of `number` and `time` (ISO 8601; both
may be left out, not both at once): the number orders, and of equal numbers the time, in milliseconds. So events that
name the revision that a page is at, and no number of their own, are in order: a deletion after the edit, an undeletion
after that.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from libs.errors.errors import InvalidArgument
from services.propagation.domain import names
from services.propagation.domain.change import Cause, Change
from services.propagation.rules.matching import UNKNOWN
from services.propagation.rules.templates import TemplateFailed, Tree

URI = "/sys/changes"
MAX_CHANGES = 100
"""Of one action."""
_KEYS = frozenset(("resource", "version", "aspects", "id", "lane", "cause", "attributes"))
_CAUSE_KEYS = ("kind", "causer", "request_id")
_MAX_TEXT_BYTES = 256
_MAX_ATTRIBUTES = 16
_DIGITS = re.compile(r"[0-9]{1,20}")
_HEX = re.compile(r"[0-9a-fA-F]{32}")
_HALF = 1 << 64


@dataclass(frozen=True, slots=True)
class Announcement:
    """The changes as the rule gave them, checked as far as they can be without the event's place."""

    bodies: tuple[Mapping[str, object], ...]

    def shown(self) -> dict[str, object]:
        """The changes for people."""
        return {"changes": [dict(body) for body in self.bodies]}

    def changes(self, named: str, request_id: str) -> list[Change]:
        """The changes; those without an id have one of `named`. Raises InvalidArgument."""
        found: list[Change] = []
        for at, body in enumerate(self.bodies):
            found.append(_change(body, named if at == 0 else f"{named}~{at}", request_id, f"changes[{at}]"))
        return found


@dataclass(frozen=True, slots=True)
class Announce:
    """The template of changes. `outline` is what the file tells of them (outlines.py)."""

    body: Tree
    outline: object = UNKNOWN

    def build(self, context: Mapping[str, object]) -> Announcement:
        """The changes. Raises TemplateFailed."""
        value = self.body(context)
        given = value if isinstance(value, list) else [value]
        bodies = tuple(body for body in given if isinstance(body, Mapping))
        if not 1 <= len(given) <= MAX_CHANGES or len(bodies) < len(given):
            raise TemplateFailed(f"the body is no change, and no list of 1 to {MAX_CHANGES} changes")
        return Announcement(bodies)


def version_of(given: object, path: str) -> bytes:
    """16 bytes of a version as a rule writes it. Raises InvalidArgument."""
    if isinstance(given, str) and _HEX.fullmatch(given):
        return bytes.fromhex(given)
    if isinstance(given, Mapping):
        if not given or not set(given) <= {"number", "time"}:
            raise InvalidArgument.field(path, "is no version: number, time, or both are allowed")
        number = _number(given.get("number", 0), f"{path}.number")
        return (number * _HALF + (_ms(given["time"], f"{path}.time") if "time" in given else 0)).to_bytes(16, "big")
    return (_number(given, path) * _HALF).to_bytes(16, "big")


def _number(given: object, path: str) -> int:
    number = int(given) if isinstance(given, str) and _DIGITS.fullmatch(given) else given
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < _HALF:
        raise InvalidArgument.field(path, "is no whole number from 0 to 2^64 - 1")
    return number


def _ms(given: object, path: str) -> int:
    try:
        moment = datetime.fromisoformat(given if isinstance(given, str) else "")
        moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        found = int(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        found = -1
    if found < 0:
        raise InvalidArgument.field(path, "is no ISO 8601 time since 1970")
    return found


def _change(body: Mapping[str, object], named: str, request_id: str, path: str) -> Change:
    unknown = sorted(str(key) for key in body if key not in _KEYS)
    if unknown:
        allowed = ", ".join(sorted(_KEYS))
        raise InvalidArgument.field(f"{path}.{unknown[0][:64]}", f"is not part of a change; {allowed} are allowed")
    resource = _text(body.get("resource"), f"{path}.resource", names.MAX_RESOURCE_BYTES)
    names.check_source(resource, f"{path}.resource")
    change_id = _text(body.get("id", named), f"{path}.id", names.MAX_CHANGE_ID_BYTES)
    names.check_change_id(change_id, f"{path}.id")
    lane = _text(body.get("lane", ""), f"{path}.lane", _MAX_TEXT_BYTES)
    if lane and not names.is_word(lane):
        raise InvalidArgument.field(f"{path}.lane", f"is no lane; {names.WORD_RULE}")
    return Change(
        id=change_id,
        resource=resource,
        aspects=names.check_aspects(_texts(body.get("aspects", names.CONTENT), f"{path}.aspects"), f"{path}.aspects"),
        version=version_of(body.get("version"), f"{path}.version"),
        cause=_cause(body.get("cause", {}), request_id, f"{path}.cause"),
        lane=lane,
        attributes=_attributes(body.get("attributes", {}), f"{path}.attributes"),
    )


def _cause(given: object, request_id: str, path: str) -> Cause:
    if not isinstance(given, Mapping) or not set(given) <= set(_CAUSE_KEYS):
        raise InvalidArgument.field(path, f"is no mapping of {', '.join(_CAUSE_KEYS)}")
    kind = _text(given.get("kind", "event"), f"{path}.kind", 64)
    causer = _text(given.get("causer", ""), f"{path}.causer", 256)
    # Not ours to refuse: another system's id of a request is only handed on.
    known = request_id.encode()[:128].decode(errors="ignore")
    return Cause(kind, causer, _text(given.get("request_id", known), f"{path}.request_id", 128))


def _attributes(given: object, path: str) -> tuple[tuple[str, str], ...]:
    if not isinstance(given, Mapping) or len(given) > _MAX_ATTRIBUTES:
        raise InvalidArgument.field(path, f"is no mapping of at most {_MAX_ATTRIBUTES} texts")
    return tuple(sorted((str(key), _text(value, f"{path}.{key}", _MAX_TEXT_BYTES)) for key, value in given.items()))


def _texts(given: object, path: str) -> Sequence[str]:
    return [_text(one, path, _MAX_TEXT_BYTES) for one in (given if isinstance(given, list) else [given])]


def _text(given: object, path: str, limit: int) -> str:
    if not isinstance(given, str) or len(given.encode(errors="replace")) > limit:
        raise InvalidArgument.field(path, f"is no text of at most {limit:,} bytes")
    return given
