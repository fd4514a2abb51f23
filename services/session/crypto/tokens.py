"""Tokens: minted here, told from forgeries without a read, and kept nowhere.

    wss_<realm>_<front>.<back>

    front  base64url of: format (1 byte), tag key's number (1), home (2), random id (16), tag (12)
    back   base64url of: random secret (32 bytes), CRC-32 of all before it (4)

The checksum lets scanners recognise a leaked token; the tag (HMAC-SHA-256, cut to 96 bits, over realm and front) lets
the service refuse a forged or foreign one before it reads anything; the secret is what proves possession. The home is
the number of the data centre where the session's conditional writes are decided.
"""

import binascii
import hmac
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from services.session.crypto.keyring import KEY_BYTES, RETIRING, Key, Keyring

PREFIX: Final = "wss"
FORMAT: Final = 1
ID_BYTES: Final = 16
SECRET_BYTES: Final = 32
TAG_BYTES: Final = 12
_HEAD_BYTES: Final = 4
_FRONT_BYTES: Final = _HEAD_BYTES + ID_BYTES + TAG_BYTES
MAX_TOKEN_BYTES: Final = 160
REALM_PATTERN: Final = re.compile(r"[a-z][a-z0-9]{0,31}")

_TOKEN: Final = re.compile(rb"wss_([a-z][a-z0-9]{0,31})_([A-Za-z0-9_-]{43})\.([A-Za-z0-9_-]{48})")
"""43 characters are 32 bytes, 48 characters 36."""

_NOBODYS: Final = Key("tag", 0, RETIRING, bytes(KEY_BYTES), 0)

Random = Callable[[int], bytes]


class Malformed(ValueError):
    """Not of a token's form, or its checksum is wrong: never a token of ours, whatever the keys."""


@dataclass(frozen=True, slots=True, repr=False)
class Token:
    """What a token says, taken apart, and its session's `handle`. `secret` proves possession; it is never stored, and
    never printed."""

    realm: str
    tag_key: int
    home: int
    id: bytes
    tag: bytes
    secret: bytes
    handle: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "handle", handle_of(self.id))

    def __repr__(self) -> str:
        return f"Token({self.realm}, {self.handle[:8]}…)"


def handle_of(session_id: bytes) -> str:
    """The session's public name: SHA-256 of its random id, base64url (43 characters)."""
    return _b64(sha256(session_id).digest()).decode()


def mint(keyring: Keyring, realm: str, home: int, random: Random) -> tuple[Token, bytes]:
    """A token for a new session, and its text. `random(n)` gives n unpredictable bytes."""
    return _make(keyring, realm, home, random(ID_BYTES), random(SECRET_BYTES))


def remint(keyring: Keyring, token: Token, random: Random) -> tuple[Token, bytes]:
    """A token with a new secret for the same session."""
    return _make(keyring, token.realm, token.home, token.id, random(SECRET_BYTES))


def parse(text: bytes) -> Token:
    """Takes a token apart. Raises Malformed."""
    match = _TOKEN.fullmatch(text) if len(text) <= MAX_TOKEN_BYTES else None
    if match is None:
        raise Malformed("not of a token's form")
    try:
        front, back = _unb64(match[2]), _unb64(match[3])
    except binascii.Error:
        raise Malformed("not of a token's form") from None
    secret, checksum = back[:SECRET_BYTES], back[SECRET_BYTES:]
    if zlib.crc32(_covered(match[1], front, secret)).to_bytes(4, "big") != checksum or front[0] != FORMAT:
        raise Malformed("the checksum is wrong: a part is missing or was changed")
    return Token(
        realm=match[1].decode(),
        tag_key=front[1],
        home=int.from_bytes(front[2:_HEAD_BYTES], "big"),
        id=front[_HEAD_BYTES : _HEAD_BYTES + ID_BYTES],
        tag=front[_HEAD_BYTES + ID_BYTES :],
        secret=secret,
    )


def is_ours(keyring: Keyring, token: Token) -> bool:
    """Whether the service minted it for this realm: no proof that its session lives."""
    key = keyring.find("tag", token.tag_key)
    # A number that no key has is checked against a key all the same, so that it takes no less time.
    expected = _tag(key or _NOBODYS, token.realm, _head(token.tag_key, token.home) + token.id)
    return hmac.compare_digest(expected, token.tag) and key is not None


def verifier(pepper: Key, realm: str, handle: str, secret: bytes) -> bytes:
    """What is kept of a token: 32 bytes that give nobody the token back."""
    return pepper.mac(b"verifier\0%b\0%b\0%b" % (realm.encode(), handle.encode(), secret))


def _make(keyring: Keyring, realm: str, home: int, session_id: bytes, secret: bytes) -> tuple[Token, bytes]:
    if REALM_PATTERN.fullmatch(realm) is None:
        raise ValueError(f"not a realm's name: {realm!r}")
    key = keyring.active("tag")
    head = _head(key.number, home)
    tag = _tag(key, realm, head + session_id)
    front = head + session_id + tag
    checksum = zlib.crc32(_covered(realm.encode(), front, secret)).to_bytes(4, "big")
    text = b"%b_%b_%b.%b" % (PREFIX.encode(), realm.encode(), _b64(front), _b64(secret + checksum))
    return Token(realm, key.number, home, session_id, tag, secret), text


def _head(tag_key: int, home: int) -> bytes:
    return bytes((FORMAT, tag_key)) + home.to_bytes(2, "big")


def _tag(key: Key, realm: str, front: bytes) -> bytes:
    return key.mac(b"tag\0%b\0%b" % (realm.encode(), front))[:TAG_BYTES]


def _covered(realm: bytes, front: bytes, secret: bytes) -> bytes:
    return b"%b\0%b%b" % (realm, front, secret)


# By binascii alone: base64's functions look at types and patterns first, for as long again.
_TO_URL: Final = bytes.maketrans(b"+/", b"-_")
_FROM_URL: Final = bytes.maketrans(b"-_", b"+/")


def _b64(data: bytes) -> bytes:
    return binascii.b2a_base64(data, newline=False).translate(_TO_URL).rstrip(b"=")


def _unb64(data: bytes) -> bytes:
    raw = binascii.a2b_base64(data.translate(_FROM_URL) + b"=" * (-len(data) % 4))
    # One spelling for one token: leftover bits in the last character would be a second one.
    if len(data) % 4 and _b64(raw) != data:
        raise binascii.Error
    return raw
