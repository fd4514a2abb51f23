"""Looks whether an audit is whole: every line follows from the one before, every head is signed by a known key."""

import base64
import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from services.session.audit import chain
from services.session.audit.chain import Place

REMEMBERED: Final = 20_000
"""Entries of a topic that may come again: what a killed server had under way is a thousand."""


@dataclass(slots=True)
class Report:
    """What was found. `problems` say where and what is wrong; `vouched` is the last entry before a good head; `gaps`
    counts events that could not be written, `repeats` entries that came again unchanged."""

    first: int = 0
    last: int = 0
    heads: int = 0
    vouched: int = 0
    gaps: int = 0
    repeats: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


class Verifier:
    """Of one chain, given line by line. `anchors` are (number, hash) of heads that were kept elsewhere, such as in the
    log: those that the chain contains are in `found`. With `repeats` an entry may come again unchanged."""

    def __init__(
        self,
        keys: Mapping[str, Ed25519PublicKey],
        anchors: Iterable[tuple[int, str]] = (),
        *,
        repeats: bool = False,
    ) -> None:
        self.report = Report()
        self.found: set[tuple[int, str]] = set()
        self.place: Place | None = None
        self._keys = keys
        self._anchors = frozenset(anchors)
        self._repeats = repeats
        self._seen: OrderedDict[Place, None] = OrderedDict()

    def line(self, line: bytes, where: str) -> Place:
        """The next line; the place behind it."""
        report, place = self.report, self.place
        try:
            entry = chain.parse(line)
        except ValueError:
            report.problems.append(f"{where}: no entry of an audit")
            return self._after(chain.after(place or Place(), line))
        behind = chain.after(Place(entry["n"] - 1), line)
        if self._repeats and behind in self._seen:
            report.repeats += 1
            return behind
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
            self._head(place, entry, where)
        elif entry["event"] == chain.GAP:
            report.gaps += _lost(entry)
        return self._after(behind)

    def _after(self, place: Place) -> Place:
        self.place = place
        self.report.last = place.number
        if (place.number, place.hash) in self._anchors:
            self.found.add((place.number, place.hash))
        if self._repeats:
            self._seen[place] = None
            if len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)
        return place

    def _head(self, place: Place, entry: Mapping[str, Any], where: str) -> None:
        report = self.report
        report.heads += 1
        key = self._keys.get(str(entry.get("kid")))
        if key is None:
            report.problems.append(
                f"{where}: the head is signed by {entry.get('kid')!r}, which is none of the keys given"
            )
            return
        try:
            signature = base64.b64decode(str(entry.get("sig")), validate=True)
            key.verify(signature, chain.signed_text(str(entry.get("writer")), place))
        except (InvalidSignature, ValueError):
            report.problems.append(f"{where}: the head's signature does not hold")
            return
        if not report.problems:
            report.vouched = place.number


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
    """Reads the files, the oldest first, as one chain, which must contain the anchors. Raises OSError."""
    wanted = dict(anchors)
    verifier = Verifier(keys)
    report = verifier.report
    for path in files:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                place = verifier.line(line, f"{path}:{number}")
                expected = wanted.pop(place.number, None)
                if expected is not None and expected != place.hash:
                    report.problems.append(f"{path}:{number}: entry {place.number} is not the one that was anchored")
    for number in sorted(wanted):
        report.problems.append(f"entry {number}, which was anchored elsewhere, is missing")
    return report


class Chains:
    """All chains of a topic, each with its report; an anchor must be in one of them."""

    def __init__(self, keys: Mapping[str, Ed25519PublicKey], anchors: Iterable[tuple[int, str]] = ()) -> None:
        self._keys = keys
        self._anchors = frozenset(anchors)
        self._verifiers: dict[str, Verifier] = {}

    def line(self, name: str, line: bytes, where: str) -> None:
        """An entry of the chain of that name, without the line's end."""
        verifier = self._verifiers.get(name)
        if verifier is None:
            verifier = self._verifiers[name] = Verifier(self._keys, self._anchors, repeats=True)
        verifier.line(line + b"\n", where)

    @property
    def reports(self) -> dict[str, Report]:
        """By chain."""
        return {name: verifier.report for name, verifier in sorted(self._verifiers.items())}

    @property
    def missing(self) -> list[str]:
        """What is wrong with no chain alone: anchors that none has."""
        found = {anchor for verifier in self._verifiers.values() for anchor in verifier.found}
        return [
            f"entry {number}, which was anchored elsewhere, is in none of the chains"
            for number, _ in sorted(self._anchors - found)
        ]


def _lost(entry: Mapping[str, Any]) -> int:
    facts = entry.get("facts")
    lost = facts.get("lost") if isinstance(facts, dict) else None
    return lost if isinstance(lost, int) else 1
