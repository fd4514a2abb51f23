"""Looks whether an audit is whole: every line follows from the one before, every head is signed by a known key."""

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from services.session.audit import chain
from services.session.audit.chain import Place


@dataclass(slots=True)
class Report:
    """What was found. `problems` say file, line and what is wrong; `vouched` is the last entry before a good head."""

    first: int = 0
    last: int = 0
    heads: int = 0
    vouched: int = 0
    gaps: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def keys_of(key_set: str) -> dict[str, Ed25519PublicKey]:
    """The public keys in a key set, by id. Raises ValueError for what is no key set."""
    found = {}
    for key in json.loads(key_set)["keys"]:
        raw = base64.urlsafe_b64decode(key["x"] + "=" * (-len(key["x"]) % 4))
        found[key["kid"]] = Ed25519PublicKey.from_public_bytes(raw)
    return found


def verify(
    files: Sequence[Path], keys: Mapping[str, Ed25519PublicKey], anchors: Iterable[tuple[int, str]] = ()
) -> Report:
    """Reads the files, the oldest first, as one chain. `anchors` are (number, hash) of heads that were kept elsewhere,
    such as in the log; the chain must contain them. Raises OSError."""
    report = Report()
    wanted = dict(anchors)
    place: Place | None = None
    for path in files:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                place = _line(report, place, line, f"{path}:{number}", keys)
                expected = wanted.pop(place.number, None)
                if expected is not None and expected != place.hash:
                    report.problems.append(f"{path}:{number}: entry {place.number} is not the one that was anchored")
    report.last = place.number if place is not None else 0
    for number in sorted(wanted):
        report.problems.append(f"entry {number}, which was anchored elsewhere, is missing")
    return report


def _line(report: Report, place: Place | None, line: bytes, where: str, keys: Mapping[str, Ed25519PublicKey]) -> Place:
    try:
        entry = chain.parse(line)
    except ValueError:
        report.problems.append(f"{where}: no entry of an audit")
        return chain.after(place or Place(), line)
    if place is None:
        place = Place(entry["n"] - 1, entry["prev"])
        report.first = entry["n"]
    if not line.endswith(b"\n"):
        report.problems.append(f"{where}: the line is cut off")
    if entry["n"] != place.number + 1:
        report.problems.append(f"{where}: entry {entry['n']} stands where {place.number + 1} belongs")
    if entry["prev"] != place.hash:
        report.problems.append(
            f"{where}: does not follow from the line before: that one was changed, or one is missing"
        )
    if entry["event"] == chain.HEAD:
        _head(report, place, entry, where, keys)
    elif entry["event"] == chain.GAP:
        report.gaps += _lost(entry)
    return chain.after(Place(entry["n"] - 1), line)


def _lost(entry: Mapping[str, Any]) -> int:
    facts = entry.get("facts")
    lost = facts.get("lost") if isinstance(facts, dict) else None
    return lost if isinstance(lost, int) else 1


def _head(
    report: Report, place: Place, entry: Mapping[str, Any], where: str, keys: Mapping[str, Ed25519PublicKey]
) -> None:
    report.heads += 1
    key = keys.get(str(entry.get("kid")))
    if key is None:
        report.problems.append(f"{where}: the head is signed by {entry.get('kid')!r}, which is none of the keys given")
        return
    try:
        signature = base64.b64decode(str(entry.get("sig")), validate=True)
        key.verify(signature, chain.signed_text(str(entry.get("writer")), place))
    except (InvalidSignature, ValueError):
        report.problems.append(f"{where}: the head's signature does not hold")
        return
    if not report.problems:
        report.vouched = place.number
