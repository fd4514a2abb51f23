"""The keyring: versioned secret keys by purpose, in one file that lives apart from the data and its backups.

Purposes:

* ``tag``: makes and checks the tag in a token, so that a forgery is refused without a read
* ``pepper``: keys the verifiers of tokens at rest
* ``seal``: wraps subjects' keys
* ``sign``: signs assertions (the secret is an Ed25519 seed)
* ``pseudonym``: turns subjects into what is stored in their place (one for ever: it is an index)
* ``pairwise``: turns stored pseudonyms into what each caller sees (one for ever)
"""

import base64
import binascii
import json
import secrets
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from libs.errors.errors import DataLoss, FailedPrecondition
from libs.files import durable

KEY_BYTES: Final = 32
PURPOSES: Final = ("tag", "pepper", "seal", "sign", "pseudonym", "pairwise")
FORMAT: Final = 1
MAX_KEY_NUMBER: Final = 255
"""A token and a sealed value carry their key's number in one byte."""

ACTIVE: Final = "active"
RETIRING: Final = "retiring"
NEXT: Final = "next"
STATES: Final = (NEXT, ACTIVE, RETIRING)


class KeyringUnusable(FailedPrecondition):
    """The file is not a keyring, may be read by others, or is not the one that the data was written with."""

    default_reason = "KEYRING_UNUSABLE"


class KeyUnknown(DataLoss):
    """Something was sealed by a key that the keyring does not hold (any more)."""

    default_reason = "KEY_UNKNOWN"


@dataclass(frozen=True, slots=True, repr=False)
class Key:
    """One key: 32 secret bytes, known by purpose and number (1..255). Never printed."""

    purpose: str
    number: int
    state: str
    secret: bytes
    created_s: int
    superseded_s: int = 0
    """When another key took its place as the active one; 0 before that. Later of two times if it happened twice."""
    _keyed: HMAC = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_keyed", HMAC(self.secret, SHA256()))

    @property
    def key_id(self) -> str:
        return f"{self.purpose}-{self.number}"

    @property
    def check(self) -> str:
        """Tells this key from another of the same number, and nothing else of it: kept with the data."""
        return sha256(b"wellspring key check\0" + self.secret).hexdigest()[:16]

    def mac(self, text: bytes) -> bytes:
        """HMAC-SHA-256 of a text under this key: 32 bytes.

        Python's own `hmac.digest` begins with the key each time, and lets other threads run in between: in a server
        whose driver has a thread, that was most of what it took."""
        keyed = self._keyed.copy()
        keyed.update(text)
        return keyed.finalize()

    def derive(self, use: str) -> bytes:
        """A key of its own for one use: 32 bytes that tell nothing of this key."""
        return self.mac(b"wellspring derived\0" + use.encode())

    def __repr__(self) -> str:
        return f"Key({self.key_id}, {self.state})"


class Keyring:
    """Keys by purpose. Exactly one of each purpose is active: it makes what is new; the others only open the old."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self._by_id: dict[tuple[str, int], Key] = {(key.purpose, key.number): key for key in keys}
        self._active = _active(keys)
        self.opens_next = False
        """Whether next keys open, too: where others share the data one of them may have promoted a key already."""

    def take(self, other: "Keyring") -> None:
        """Becomes the other keyring: whoever holds this one makes and opens with its keys from now on."""
        self._by_id, self._active = dict(other._by_id), dict(other._active)

    def active(self, purpose: str) -> Key:
        """The key that makes what is new."""
        return self._active[purpose]

    def get(self, purpose: str, number: int) -> Key:
        """The key of that number. Raises KeyUnknown."""
        key = self._by_id.get((purpose, number))
        if key is None or (key.state == NEXT and not self.opens_next):
            raise KeyUnknown(f"the keyring holds no key {purpose}-{number}", metadata={"key_id": f"{purpose}-{number}"})
        return key

    def find(self, purpose: str, number: int) -> Key | None:
        """As get, None when there is none: for what strangers send."""
        key = self._by_id.get((purpose, number))
        return None if key is None or (key.state == NEXT and not self.opens_next) else key

    def everything(self) -> list[Key]:
        """All of them, by purpose and number."""
        return sorted(self._by_id.values(), key=lambda key: (key.purpose, key.number))

    @property
    def fingerprint(self) -> bytes:
        """Names the keyring to the data written with it; tells nothing of its keys.

        Of the two keys that are for ever, so that it outlives rotations.
        """
        forever = (self.active("pseudonym").secret, self.active("pairwise").secret)
        return sha256(b"wellspring keyring\0" + b"".join(forever)).digest()[:16]


def _active(keys: Sequence[Key]) -> dict[str, Key]:
    found = {}
    for purpose in PURPOSES:
        active = [key for key in keys if key.purpose == purpose and key.state == ACTIVE]
        if len(active) != 1:
            raise KeyringUnusable(f"a keyring has one active key for {purpose!r}, this one has {len(active)}")
        found[purpose] = active[0]
    return found


def generate(now_s: int) -> Keyring:
    """A new keyring with one random key for each purpose."""
    return Keyring([Key(purpose, 1, ACTIVE, secrets.token_bytes(KEY_BYTES), now_s) for purpose in PURPOSES])


def load(path: Path) -> Keyring:
    """The keyring in a file. Raises KeyringUnusable, saying what is wrong with the file and never what is in it."""
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise KeyringUnusable(f"there is no keyring at {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise KeyringUnusable(f"the keyring at {path} cannot be read ({type(error).__name__})") from None
    if stat.S_IMODE(mode) & 0o077:
        raise KeyringUnusable(f"the keyring at {path} may be read by others; allowed is chmod 600 (or 400)")
    try:
        document = json.loads(text)
        if document["format"] != FORMAT:
            raise KeyringUnusable(
                f"the keyring at {path} has format {document['format']!r}, this version reads {FORMAT}"
            )
        keys = [_key(entry) for entry in document["keys"]]
    except (ValueError, KeyError, TypeError, binascii.Error):
        raise KeyringUnusable(
            f"the keyring at {path} is damaged or no keyring; restore it from its own backup"
        ) from None
    return Keyring(keys)


def save(path: Path, keyring: Keyring) -> None:
    """Writes the file anew, readable by its owner only; a crash leaves the old one or the new one."""
    document = {
        "format": FORMAT,
        "keys": [
            {
                "purpose": key.purpose,
                "number": key.number,
                "state": key.state,
                "created_s": key.created_s,
                "superseded_s": key.superseded_s,
                "secret": base64.b64encode(key.secret).decode(),
            }
            for key in keyring.everything()
        ],
    }
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    durable.replace(path, json.dumps(document, indent=1).encode())


def _key(entry: Mapping[str, Any]) -> Key:
    secret = base64.b64decode(entry["secret"], validate=True)
    # A file of before keys were superseded by name has no such time: 0, as of a key that was not.
    superseded_s = entry.get("superseded_s", 0)
    key = Key(entry["purpose"], entry["number"], entry["state"], secret, entry["created_s"], superseded_s)
    valid = (
        key.purpose in PURPOSES
        and key.state in STATES
        and isinstance(key.number, int)
        and 1 <= key.number <= MAX_KEY_NUMBER
        and len(secret) == KEY_BYTES
        and isinstance(key.created_s, int)
        and isinstance(key.superseded_s, int)
    )
    if not valid:
        raise ValueError("not a key")
    return key
