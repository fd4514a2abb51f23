"""A change: the fact that aspects of a resource changed, at a version, as it is accepted and kept."""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Cause:
    """Who or what brought a change about; texts may be empty."""

    kind: str = ""
    causer: str = ""
    request_id: str = ""
    chain: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """A validated change. `version` is 16 bytes, `aspects` has no doubles and at least one, `time_ns` is wall time.

    `extra` is what a later release of the contract said besides, unread and handed on.
    """

    id: str
    resource: str
    aspects: tuple[str, ...]
    version: bytes
    cause: Cause = field(default_factory=Cause)
    lane: str = ""
    time_ns: int = 0
    attributes: tuple[tuple[str, str], ...] = ()
    extra: bytes = b""

    def digest(self) -> bytes:
        """16 bytes that tell this change from another one with the same id.

        What a retry may state anew (time, cause, attributes, what is extra) is left out.
        """
        parts = [self.resource, *sorted(self.aspects), self.version.hex(), self.lane]
        return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).digest()

    def to_json(self) -> dict[str, Any]:
        """The change as plain values."""
        return {
            "id": self.id,
            "resource": self.resource,
            "aspects": list(self.aspects),
            "version": self.version.hex(),
            "cause": [self.cause.kind, self.cause.causer, self.cause.request_id, list(self.cause.chain)],
            "lane": self.lane,
            "time_ns": self.time_ns,
            "attributes": [list(pair) for pair in self.attributes],
            "extra": self.extra.hex(),
        }

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> "Change":
        """What to_json gave."""
        kind, causer, request_id, chain = plain["cause"]
        return cls(
            id=plain["id"],
            resource=plain["resource"],
            aspects=tuple(plain["aspects"]),
            version=bytes.fromhex(plain["version"]),
            cause=Cause(kind, causer, request_id, tuple(chain)),
            lane=plain["lane"],
            time_ns=plain["time_ns"],
            attributes=tuple((key, value) for key, value in plain["attributes"]),
            extra=bytes.fromhex(plain.get("extra", "")),
        )


def dump(plain: dict[str, Any]) -> bytes:
    """A record's value from plain values."""
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":")).encode()


def load(value: bytes) -> dict[str, Any]:
    """Plain values of a record's value."""
    plain: dict[str, Any] = json.loads(value)
    return plain
