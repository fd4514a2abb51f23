"""What stands in an opaque realm's store: names from which no key comes back, values that open with their key alone.

A row's name is the number of a pepper and the HMAC-SHA-256 of realm and key under it. A value is sealed by AES-256-GCM
under a key made (HKDF-SHA-256) from the caller's key and the realm's, which the keyring seals: the store with the
keyring opens nothing without the caller's key, nor does the caller's key open anything without the keyring.
"""

import base64
from hashlib import sha256
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from services.session.crypto.keyring import ACTIVE, NEXT, Key, Keyring
from services.session.crypto.sealing import KEY_BYTES, Random, place, seal, unseal

NAME_BYTES: Final = 1 + 32


def names(keyring: Keyring, realm: str, key: bytes) -> list[bytes]:
    """All names under which the key's row may stand, that under the active pepper first: 33 bytes each."""
    peppers = [k for k in keyring.everything() if k.purpose == "pepper" and k.state != NEXT]
    peppers.sort(key=lambda pepper: pepper.state != ACTIVE)
    return [_name(pepper, realm, key) for pepper in peppers]


def pepper_of(name: bytes) -> int:
    """The number of the pepper that a row's name was made with."""
    return name[0]


def handle_of(name: bytes) -> str:
    """What events call the row: 43 characters that tell neither its key nor its name."""
    return base64.urlsafe_b64encode(sha256(b"opaque handle\0" + name).digest()).rstrip(b"=").decode()


def seal_value(
    realm_key: bytes, realm: str, key: bytes, name: bytes, times_us: tuple[int, int], value: bytes, random: Random
) -> bytes:
    """A value for the row `name`, bound to realm, row and the times when it was written and ends: another row, or
    another end, does not open it."""
    return seal(_value_key(realm_key, realm, key), value, _where(realm, name, times_us), random)


def open_value(
    realm_key: bytes, realm: str, key: bytes, name: bytes, times_us: tuple[int, int], sealed: bytes
) -> bytes:
    """What `seal_value` sealed. Raises SealBroken."""
    return unseal(_value_key(realm_key, realm, key), sealed, _where(realm, name, times_us))


def _name(pepper: Key, realm: str, key: bytes) -> bytes:
    text = b"opaque\0" + place(realm, key)
    return bytes((pepper.number,)) + pepper.mac(text)


def _value_key(realm_key: bytes, realm: str, key: bytes) -> bytes:
    return HKDF(SHA256(), KEY_BYTES, realm_key, place("opaque", realm)).derive(key)


def _where(realm: str, name: bytes, times_us: tuple[int, int]) -> bytes:
    return place("opaque-value", realm, name, *times_us)
