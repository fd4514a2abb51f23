"""What a verifier remembers, in bounded memory: sessions found good a moment ago, and who was revoked lately."""

import dataclasses
import datetime
from collections import OrderedDict
from hashlib import sha256
from typing import Final, TypeVar

from wellspring.session.v1 import session_pb2 as pb

_Revocation = pb.WatchRevocationsResponse.Revocation
_Name = TypeVar("_Name")
_IN_FLIGHT_MOST: Final = 1000


@dataclasses.dataclass(frozen=True, slots=True)
class Verified:
    """A live session, from a token or an assertion. ``subject``: in this caller's own form (of an assertion: in the
    audience's), empty for an anonymous session; ``level`` 1..3, 0 for an anonymous one; ``handle_hash``: SHA-256 of
    its public handle. ``session`` and ``rotate_hint`` are a token's only. There is nothing secret in it.
    """

    realm: str
    subject: str
    level: int
    methods: tuple[str, ...]
    auth_time: datetime.datetime | None
    handle_hash: bytes
    session: pb.Session | None = None
    rotate_hint: bool = False

    @property
    def anonymous(self) -> bool:
        """Whether nobody has logged in."""
        return not self.subject

    @classmethod
    def of(cls, session: pb.Session, *, rotate_hint: bool = False) -> "Verified":
        """A session as the service answers it."""
        sure = session.assurance
        return cls(
            realm=session.realm,
            subject="" if session.anonymous else session.subject,
            level=0 if session.anonymous else sure.level,
            methods=tuple(sure.methods),
            auth_time=sure.auth_time.ToDatetime(datetime.UTC) if sure.HasField("auth_time") else None,
            handle_hash=sha256(session.handle.encode()).digest(),
            session=session,
            rotate_hint=rotate_hint,
        )


class InFlight:
    """What was revoked while a question was on its way: its answer may be older than that."""

    def __init__(self) -> None:
        self._handles: set[bytes] = set()
        self._subjects: set[str] = set()
        self._all = False

    def note(self, one: _Revocation) -> None:
        """Take a revocation in; after a thousand all count as revoked."""
        match one.WhichOneof("target"):
            case "handle_hash":
                self._handles.add(one.handle_hash)
            case "subject":
                self._subjects.add(one.subject)
            case _:
                self._all = True
        if len(self._handles) + len(self._subjects) > _IN_FLIGHT_MOST:
            self.note_all()

    def note_all(self) -> None:
        """Something was missed: any answer may be too old."""
        self._all = True
        self._handles.clear()
        self._subjects.clear()

    def touches(self, found: Verified) -> bool:
        """Whether the session may have been revoked meanwhile."""
        return self._all or found.handle_hash in self._handles or (found.subject in self._subjects)


class Cache:
    """Sessions by the hash of their token; the one that was used longest ago goes first. No token is kept."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._entries: OrderedDict[bytes, tuple[Verified, float]] = OrderedDict()
        self._of_handle: dict[bytes, set[bytes]] = {}
        self._of_subject: dict[str, set[bytes]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes, now_s: float) -> Verified | None:
        """What is known under the key, unless it is too old."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if now_s >= entry[1]:
            self.drop(key)
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: bytes, found: Verified, until_s: float) -> None:
        """Keep it up to ``until_s``."""
        self.drop(key)
        self._entries[key] = (found, until_s)
        self._of_handle.setdefault(found.handle_hash, set()).add(key)
        self._of_subject.setdefault(found.subject, set()).add(key)
        while len(self._entries) > self._most:
            self.drop(next(iter(self._entries)))

    def drop(self, key: bytes) -> None:
        """Forget one, if it is there."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            _remove(self._of_handle, entry[0].handle_hash, key)
            _remove(self._of_subject, entry[0].subject, key)

    def revoke(self, one: _Revocation) -> None:
        """Forget what a revocation speaks of."""
        match one.WhichOneof("target"):
            case "handle_hash":
                keys = self._of_handle.get(one.handle_hash, set())
            case "subject":
                keys = self._of_subject.get(one.subject, set())
            case _:
                keys = set(self._entries)
        for key in list(keys):
            self.drop(key)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._of_handle.clear()
        self._of_subject.clear()


def _remove(index: dict[_Name, set[bytes]], name: _Name, key: bytes) -> None:
    keys = index[name]
    keys.discard(key)
    if not keys:
        del index[name]


class Revoked:
    """Who was revoked in the last ``keep_s`` seconds, for assertions, which outlive a revocation by themselves.

    ``floor_s``: assertions issued in or before this second cannot be judged: not everything since is known.
    """

    def __init__(self, keep_s: float, most: int) -> None:
        self._keep_s = keep_s
        self._most = most
        self._found: OrderedDict[bytes | str, tuple[float, int]] = OrderedDict()
        self._realm_s = -1
        self.floor_s = -1

    def note(self, one: _Revocation, now_s: float) -> None:
        """Take a revocation in, that was heard of at ``now_s``."""
        match one.WhichOneof("target"):
            case "handle_hash":
                name: bytes | str = one.handle_hash
            case "subject":
                name = one.subject
            case _:
                self._realm_s = max(self._realm_s, one.time.seconds)
                return
        self._found.pop(name, None)
        self._found[name] = (now_s, one.time.seconds)
        while self._found:
            heard_s, time_s = next(iter(self._found.values()))
            if len(self._found) <= self._most and now_s - heard_s <= self._keep_s:
                return
            if now_s - heard_s <= self._keep_s:
                self.floor_s = max(self.floor_s, time_s)
            self._found.popitem(last=False)

    def ended(self, handle_hash: bytes, subject: str, issued_s: int) -> bool:
        """Whether an assertion of that session, issued then, was overtaken. One issued in the same second counts as
        before the revocation.
        """
        if handle_hash in self._found or issued_s <= self._realm_s:
            return True
        return bool(subject) and subject in self._found and issued_s <= self._found[subject][1]

    def clear(self) -> None:
        """Forget everything."""
        self._found.clear()
        self._realm_s = self.floor_s = -1
