"""A chain of audit entries: each names the hash of the one before, signed heads vouch for all that lies behind them.

An entry is a line of JSON with sorted keys: `n` (counted from 1), `at` (UTC), `event`, `realm`, `handle`, `caller`,
`facts`, and `prev`, the SHA-256 of the line before as it lies in the file. Whoever changes, removes or inserts a line
breaks the chain behind it; whoever writes the rest anew cannot sign its heads; whoever cuts off the end is told by a
head that was kept elsewhere (every head goes to the log too).
"""

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

BEGINNING: Final = "0" * 64
"""What the first entry names as the one before."""
HEAD: Final = "audit_head"
OPENED: Final = "audit_opened"
GAP: Final = "audit_gap"

_NEEDED: Final = (("n", int), ("prev", str), ("event", str), ("at", str))

Sign = Callable[[bytes], tuple[str, bytes]]
"""From bytes to the signing key's id and the signature."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a chain stands: the number and the hash of its last line."""

    number: int = 0
    hash: str = BEGINNING


def entry(place: Place, time_ns: int, event: str, **parts: Any) -> bytes:
    """The line of the next entry, with its newline. `parts` without a value are left out."""
    at = datetime.fromtimestamp(time_ns / 1e9, UTC).isoformat(timespec="microseconds")
    kept = {name: part for name, part in parts.items() if part not in ("", None) and part != {}}
    line = {"n": place.number + 1, "at": at, "event": event, "prev": place.hash, **kept}
    return json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode() + b"\n"


def head(place: Place, time_ns: int, writer: str, sign: Sign) -> bytes:
    """The line of a head: an entry whose signature covers writer, number and hash of what lies before it."""
    key_id, signature = sign(signed_text(writer, place))
    return entry(place, time_ns, HEAD, writer=writer, kid=key_id, sig=base64.b64encode(signature).decode())


def signed_text(writer: str, place: Place) -> bytes:
    """What a head signs."""
    return f"wellspring audit head\0{writer}\0{place.number}\0{place.hash}".encode()


def after(place: Place, line: bytes) -> Place:
    """The place behind a line, given without its newline or with it."""
    return Place(place.number + 1, sha256(line.rstrip(b"\n")).hexdigest())


def parse(line: bytes) -> Mapping[str, Any]:
    """An entry. Raises ValueError for what is none."""
    found: Any = json.loads(line)
    if isinstance(found, dict) and all(isinstance(found.get(name), kind) for name, kind in _NEEDED):
        return found
    raise ValueError("no entry of an audit")
