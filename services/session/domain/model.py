"""A session as the service keeps it, and the small records around it. Plain values; times in microseconds of 1970."""

import enum
from dataclasses import dataclass
from typing import Final, NamedTuple

ANONYMOUS: Final = bytes(32)
"""The pseudonym that all anonymous sessions of a realm share: no HMAC gives it."""

Epochs = tuple[tuple[str, int], ...]
"""A counter for each data centre that ever raised one, sorted by data centre."""


class Epoch(NamedTuple):
    """The epochs of a realm or a subject as they stand, and when one was raised last (0: never)."""

    counters: Epochs = ()
    raised_us: int = 0


class TokenRecord(NamedTuple):
    """What is kept of a token that is good: never the token. `dies_us`: the end of its grace; 0 while it is current.

    `wrapped` is the data key under this token's secret and the subject's key.
    """

    pepper: int
    verifier: bytes
    issued_us: int
    dies_us: int
    wrapped: bytes


class OldToken(NamedTuple):
    """A token of before, kept to notice a replay: half of its verifier; from `alarm_us` on its use means theft."""

    pepper: int
    half: bytes
    alarm_us: int


class Retry(NamedTuple):
    """The last rotation, as long as it may be asked for again.

    `parent` and `child` are verifiers of the token presented and of the one answered; `wrapped` is the data key under
    the parent's secret.
    """

    request: bytes
    pepper: int
    parent: bytes
    child: bytes
    wrapped: bytes
    grace_us: int
    until_us: int


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class Session:
    """One session. `level` is 0 while it is anonymous. `ends_us`, the absolute end, and `idle_us`, how long it lives
    without activity, never move but by authenticating again.

    `stamp` and `subject_stamp` are the epochs of the realm and of the subject when the session was made: below the
    current ones means revoked. `floor` is the highest version of any data key that was removed. `bind` is the
    thumbprint of the client's key that the session is bound to, or nothing.
    """

    realm: str
    handle: str
    revision: int
    home: str
    subject: bytes
    level: int
    methods: tuple[str, ...]
    auth_us: int
    created_us: int
    active_us: int
    ends_us: int
    idle_us: int
    stamp: Epochs
    subject_stamp: Epochs
    tokens: tuple[TokenRecord, ...]
    old: tuple[OldToken, ...] = ()
    retry: Retry | None = None
    data_keys: int = 0
    data_bytes: int = 0
    floor: int = 0
    bind: bytes = b""

    @property
    def anonymous(self) -> bool:
        return self.subject == ANONYMOUS

    def __repr__(self) -> str:
        return f"Session({self.realm}, {self.handle[:8]}…, revision {self.revision})"


class Item(NamedTuple):
    """A sealed value beside a session. `key`: its kind (one byte) and the keyed name; `until_us` 0: as the session."""

    key: bytes
    version: int
    sealed: bytes
    until_us: int = 0


class Tombstone(NamedTuple):
    """A revocation of one session, kept until no copy of the session could live (`until_us`)."""

    at_us: int
    until_us: int
    cause: str


class RevocationKind(enum.IntEnum):
    """What a revocation names: a session, all of a subject, all of a realm, a value of an opaque realm."""

    SESSION = 1
    SUBJECT = 2
    REALM = 3
    OPAQUE = 4


class Revocation(NamedTuple):
    """One of a realm's revocations, numbered from 1 without a gap. `name`: SHA-256 of the handle, the subject's
    pseudonym, nothing, or the value's name."""

    sequence: int
    kind: RevocationKind
    name: bytes
    at_us: int


REVOCATIONS_KEPT_US: Final = 86_400 * 1_000_000
"""How long a realm's revocations can be read one by one: much longer than anybody may believe an old answer."""


class Created(NamedTuple):
    """What a Create is remembered by: which session it made, for whom, until when."""

    handle: str
    subject: bytes
    until_us: int


class RealmRecord(NamedTuple):
    """A realm as the store keeps it: `body` is the policy, in `policy.encode`'s form."""

    name: str
    version: int
    created_us: int
    body: bytes


DATA: Final = b"d"
SHARED: Final = b"s"
REQUEST: Final = b"r"
SHARED_REQUEST: Final = b"q"
HINTS: Final = b"h"
"""Kinds of items: values by token, by handle, the remembered answers of updates of either, hints of the client."""
