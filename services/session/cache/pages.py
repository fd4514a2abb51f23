"""A session as the cache keeps it: sealed, so that Redis' memory shows nothing and nothing that is put there by others
opens.

Sealed under a key from the keyring's active sealing key, bound to realm, session and form; names of entries are hashes
keyed from the same. Within it, the time of the read: what comes back from an old file, or is put again by somebody who
kept it, is too old to be believed, whatever Redis' clock says. And, where there are other data centres, how much of
what they revoked was here by then.
"""

import json
import struct
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Final, NamedTuple

from services.session.crypto import sealing
from services.session.crypto.keyring import Key, Keyring
from services.session.domain.model import Epoch, Session
from services.session.store import codec

_FORM: Final = "session page 2"
_HEAD: Final = struct.Struct(">QQHH")
_NAME_BYTES: Final = 20


class Page(NamedTuple):
    """A session that lived when it was read, at `read_us`, with the epoch of its subject as it stood then; `whole` is
    what was here of other data centres (`Listening.wholeness`)."""

    read_us: int
    whole: Mapping[str, int]
    revision: int
    epoch: Epoch
    encoded: bytes

    def session(self, realm: str, handle: str) -> Session:
        """The session. Raises Damaged."""
        return codec.decode_session(realm, handle, self.encoded)


class Pages:
    """Seals and opens by the keys that are the keyring's at that moment. `random(n)`: n unpredictable bytes."""

    def __init__(self, keyring: Keyring, random: Callable[[int], bytes]) -> None:
        self._keyring = keyring
        self._random = random
        self._made: tuple[Key, bytes, bytes] | None = None

    def session_name(self, realm: str, handle: str) -> bytes:
        """The name of a session's entry."""
        return b"ws:s:" + self._name(b"s", realm, handle.encode())

    def subject_name(self, realm: str, subject: bytes) -> bytes:
        """The name of a subject's entry."""
        return b"ws:u:" + self._name(b"u", realm, subject)

    def channel(self) -> bytes:
        """The name of the channel of hints: the same for as long as there is the keyring."""
        return b"ws:h:" + self._keyring.fingerprint.hex().encode()

    def seal(self, session: Session, epoch: Epoch, read_us: int, whole: Mapping[str, int]) -> bytes:
        """A page as Redis is to keep it."""
        counters, told = codec.encode_epoch(epoch), json.dumps(whole).encode() if whole else b""
        head = _HEAD.pack(read_us, session.revision, len(counters), len(told))
        plain = head + counters + told + codec.encode_session(session)
        return sealing.seal(self._keys()[1], plain, _where(session.realm, session.handle), self._random)

    def open(self, realm: str, handle: str, sealed: bytes) -> Page:
        """What was sealed. Raises SealBroken for what is damaged, forged, another's, or sealed by another key."""
        plain = sealing.unseal(self._keys()[1], sealed, _where(realm, handle))
        read_us, revision, counters, told = _HEAD.unpack_from(plain)
        at = _HEAD.size + counters
        epoch, end = codec.decode_epoch(plain[_HEAD.size : at]), at + told
        return Page(read_us, json.loads(plain[at:end]) if told else {}, revision, epoch, plain[end:])

    def _keys(self) -> tuple[bytes, bytes]:
        """For names and for pages."""
        key = self._keyring.active("seal")
        if self._made is None or self._made[0] is not key:
            self._made = key, key.derive("cache names"), key.derive("cache pages")
        return self._made[1], self._made[2]

    def _name(self, kind: bytes, realm: str, rest: bytes) -> bytes:
        text = kind + realm.encode() + b"\0" + rest
        return blake2b(text, key=self._keys()[0], digest_size=_NAME_BYTES).digest()


def _where(realm: str, handle: str) -> bytes:
    return sealing.place(_FORM, realm, handle)
