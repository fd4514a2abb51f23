"""A realm's policy: how long its sessions live, how often their tokens change, how many there may be, who may ask.

The ceilings of timeouts are those of NIST SP 800-63B-4, section 2: AAL1 30 days; AAL2 24 hours and 1 hour without
activity; AAL3 12 hours and 15 minutes. A realm that goes beyond them says why.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from enum import IntEnum
from typing import Any, Final

from services.session.domain.errors import PolicyRefused

SECOND: Final = 1_000_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR

NAME: Final = re.compile(r"[a-z][a-z0-9]{0,31}")
MAX_JUSTIFICATION: Final = 1024
MAX_CALLERS: Final = 256


class Limit(IntEnum):
    """What happens to the login that is one too many; the numbers of the contract."""

    REJECT = 1
    EVICT_OLDEST = 2
    EVICT_LEAST_RECENTLY_USED = 3


class Kind(IntEnum):
    """Who makes what proves possession; the numbers of the contract."""

    MINTED = 1
    OPAQUE = 2


class Partition(IntEnum):
    """What happens while another data centre cannot be heard; the numbers of the contract."""

    FAIL_CLOSED = 1
    SERVE_LOCAL = 2


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Of one assurance level, in microseconds."""

    idle_us: int
    absolute_us: int


CEILINGS: Final = (Timeouts(30 * DAY, 30 * DAY), Timeouts(HOUR, DAY), Timeouts(15 * MINUTE, 12 * HOUR))
"""Of levels 1, 2 and 3."""

LONGEST: Final = Timeouts(365 * DAY, 3650 * DAY)


@dataclass(frozen=True, slots=True)
class Caller:
    """What callers of an identity (or of a pattern that ends in ``*``) may do in the realm."""

    identity: str
    methods: tuple[str, ...]
    data_keys: tuple[str, ...] = ("*",)

    def is_for(self, identity: str) -> bool:
        if self.identity.endswith("*"):
            return identity.startswith(self.identity[:-1])
        return identity == self.identity

    def allows(self, method: str) -> bool:
        return "*" in self.methods or method in self.methods


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A realm's policy, times in microseconds. No `callers`: whoever the server's allow-list lets in may use it.

    Of an opaque realm `ttl_us`, `max_data_bytes` (of a key with its value), `max_values`, `max_total_bytes`, `callers`
    and `justification` count.
    """

    timeouts: tuple[Timeouts, Timeouts, Timeouts] = CEILINGS
    rotation_interval_us: int = HOUR
    rotation_grace_us: int = 30 * SECOND
    touch_interval_us: int = MINUTE
    max_sessions_per_subject: int = 100
    limit: Limit = Limit.EVICT_OLDEST
    max_data_bytes: int = 64 * 1024
    max_data_keys: int = 64
    on_partition: Partition = Partition.FAIL_CLOSED
    revocation_bound_us: int = 5 * SECOND
    callers: tuple[Caller, ...] = ()
    justification: str = ""
    max_anonymous: int = 0
    readmission_window_us: int = 0
    keep_hints: bool = False
    hints_lifetime_us: int = 30 * DAY
    kind: Kind = Kind.MINTED
    ttl_us: int = DAY
    max_values: int = 0
    max_total_bytes: int = 0
    proof_nonces: bool = False

    def of_level(self, level: int) -> Timeouts:
        """Timeouts of an assurance level; an anonymous session (0) has those of level 1."""
        return self.timeouts[max(level, 1) - 1]

    def allows(self, identity: str, method: str) -> bool:
        """Whether a caller may use the realm by this method."""
        return not self.callers or any(c.is_for(identity) and c.allows(method) for c in self.callers)

    def visible(self, identity: str, method: str, key: str) -> bool:
        """Whether a caller of this method may see the data key."""
        if not self.callers:
            return True
        rules = [c for c in self.callers if c.is_for(identity) and c.allows(method)]
        return any("*" in c.data_keys or key in c.data_keys for c in rules)


_BOUNDS: Final[dict[str, tuple[int, int, str]]] = {
    "rotation_interval_us": (MINUTE, 30 * DAY, "1m to 30d are allowed"),
    "rotation_grace_us": (0, 10 * MINUTE, "0s to 10m are allowed"),
    "touch_interval_us": (SECOND, DAY, "1s to 1d are allowed"),
    "max_sessions_per_subject": (0, 10_000, "0 (no limit) to 10000 are allowed"),
    "max_data_bytes": (1, 1 << 20, "1 to 1 MiB are allowed"),
    "max_data_keys": (1, 1000, "1 to 1000 are allowed"),
    "revocation_bound_us": (SECOND // 2, 5 * MINUTE, "500ms to 5m are allowed"),
    "max_anonymous": (0, 10**9, "0 to 1000000000 are allowed"),
    "hints_lifetime_us": (MINUTE, 90 * DAY, "1m to 90d are allowed"),
    "readmission_window_us": (0, DAY, "0s (all at once) to 1d are allowed"),
    "ttl_us": (SECOND, LONGEST.idle_us, "1s to 365d are allowed"),
    "max_values": (0, 10**12, "0 (no limit) to 1000000000000 are allowed"),
    "max_total_bytes": (0, 1 << 50, "0 (no limit) to 1024 TiB are allowed"),
}
"""The same limits as in the configuration's contract."""


def check(name: str, policy: Policy) -> None:
    """Raises PolicyRefused, listing every mistake by its field."""
    wrong = list(_mistakes(name, policy))
    if wrong:
        raise PolicyRefused("; ".join(f"{path}: {what}" for path, what in wrong), violations=wrong)


def _mistakes(name: str, policy: Policy) -> Iterator[tuple[str, str]]:
    if NAME.fullmatch(name) is None:
        yield "realm.name", "1 to 32 of a-z, 0-9 are allowed, beginning with a letter"
    for field, (least, most, allowed) in _BOUNDS.items():
        if not least <= getattr(policy, field) <= most:
            yield f"realm.{field.removesuffix('_us')}", f"is out of bounds; {allowed}"
    if len(policy.justification) > MAX_JUSTIFICATION:
        yield "realm.policy_justification", f"at most {MAX_JUSTIFICATION} characters are allowed"
    for level, (given, ceiling) in enumerate(zip(policy.timeouts, CEILINGS, strict=True), 1):
        yield from _timeout_mistakes(level, given, ceiling, justified=bool(policy.justification.strip()))
    if policy.ttl_us > CEILINGS[0].absolute_us and not policy.justification.strip():
        yield "realm.ttl", "is above the ceiling of NIST SP 800-63B-4 (30 d); policy_justification must say why"
    if len(policy.callers) > MAX_CALLERS:
        yield "realm.callers", f"at most {MAX_CALLERS} are allowed"
    for at, caller in enumerate(policy.callers):
        if not caller.identity or "*" in caller.identity[:-1] or len(caller.identity) > 512:
            yield f"realm.callers[{at}].identity", "an identity, or one with * as its last character, is expected"
        if not caller.methods:
            yield f"realm.callers[{at}].methods", 'is empty; method names ("Validate") or "*" are expected'


def _timeout_mistakes(level: int, given: Timeouts, ceiling: Timeouts, *, justified: bool) -> Iterator[tuple[str, str]]:
    path = f"realm.timeouts[level {level}]"
    if not SECOND <= given.idle_us <= LONGEST.idle_us:
        yield f"{path}.idle", "is out of bounds; 1s to 365d are allowed"
    if not SECOND <= given.absolute_us <= LONGEST.absolute_us:
        yield f"{path}.absolute", "is out of bounds; 1s to 3650d are allowed"
    if given.idle_us > given.absolute_us:
        yield f"{path}.idle", "is longer than absolute"
    if justified:
        return
    for what in ("idle", "absolute"):
        if getattr(given, f"{what}_us") > (most := getattr(ceiling, f"{what}_us")):
            text = f"is above the ceiling of NIST SP 800-63B-4 ({most // SECOND} s); policy_justification must say why"
            yield f"{path}.{what}", text


def encode(policy: Policy) -> bytes:
    """For the store."""
    return json.dumps(asdict(policy), separators=(",", ":")).encode()


def decode(body: bytes) -> Policy:
    """What `encode` made. Keys that this version does not know are left out, those missing have their defaults."""
    plain: dict[str, Any] = json.loads(body)
    known = {f.name for f in fields(Policy)}
    values = {key: value for key, value in plain.items() if key in known}
    values["timeouts"] = tuple(Timeouts(**t) for t in plain["timeouts"])
    values["limit"] = Limit(plain["limit"])
    values["kind"] = Kind(plain.get("kind", Kind.MINTED))
    values["on_partition"] = Partition(plain["on_partition"])
    values["callers"] = tuple(
        Caller(c["identity"], tuple(c["methods"]), tuple(c["data_keys"])) for c in plain["callers"]
    )
    return Policy(**values)
