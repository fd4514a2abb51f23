"""Sealing: AES-256-GCM throughout, every sealed value bound to the place it belongs to.

A session's values are sealed under its random data key. The data key is wrapped twice: by a key from the bearer's
secret (HKDF-SHA-256), and that by the subject's key. The subject's key is wrapped by the keyring. So the store reads
nothing without the bearer, and nothing at all once the subject's key is gone. The shared compartment is sealed under a
key from the subject's: whoever holds the keyring can read it without the bearer, until the subject's key is gone.

The associated data names what a sealed value is and where it belongs; a value moved to another row, key or version does
not open.
"""

from collections.abc import Callable
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from libs.errors.errors import DataLoss
from services.session.crypto.keyring import Keyring

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
OVERHEAD_BYTES: Final = NONCE_BYTES + 16

_SIZES: Final = [size.to_bytes(4, "big") for size in range(256)]

Random = Callable[[int], bytes]


class SealBroken(DataLoss):
    """A sealed value does not open: it was damaged, moved, or sealed by another key. It is never read another way."""

    default_reason = "SEAL_BROKEN"


def place(*parts: str | bytes | int) -> bytes:
    """Associated data of the parts, no two lists of parts alike."""
    out = b""
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode()
        size = len(data)
        out += (_SIZES[size] if size < len(_SIZES) else size.to_bytes(4, "big")) + data
    return out


def seal(key: bytes, plain: bytes, where: bytes, random: Random) -> bytes:
    """Nonce and ciphertext. A key seals far fewer than 2^32 values, so that random nonces do not meet."""
    nonce = random(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plain, where)


def unseal(key: bytes, sealed: bytes, where: bytes) -> bytes:
    """The plain bytes. Raises SealBroken."""
    try:
        return AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], where)
    except (InvalidTag, ValueError):
        raise SealBroken("a sealed value does not open") from None


def bearer_key(secret: bytes, realm: str, handle: str) -> bytes:
    """The wrapping key that only the token's bearer has."""
    return HKDF(SHA256(), KEY_BYTES, None, place("bearer", realm, handle)).derive(secret)


def wrap_data_key(data_key: bytes, secret: bytes, subject_key: bytes, realm: str, handle: str, random: Random) -> bytes:
    """The data key under the bearer's key, under the subject's."""
    inner = seal(bearer_key(secret, realm, handle), data_key, place("data-key", realm, handle), random)
    return seal(subject_key, inner, place("wrapped-data-key", realm, handle), random)


def unwrap_data_key(wrapped: bytes, secret: bytes, subject_key: bytes, realm: str, handle: str) -> bytes:
    """Raises SealBroken, which a wrong secret is too."""
    inner = unseal(subject_key, wrapped, place("wrapped-data-key", realm, handle))
    return unseal(bearer_key(secret, realm, handle), inner, place("data-key", realm, handle))


def shared_key(subject_key: bytes, realm: str, handle: str) -> bytes:
    """The key of a session's shared compartment."""
    return HKDF(SHA256(), KEY_BYTES, None, place("shared", realm, handle)).derive(subject_key)


def seal_by_keyring(keyring: Keyring, plain: bytes, where: bytes, random: Random) -> bytes:
    """The keyring key's number (1 byte), then as `seal`."""
    key = keyring.active("seal")
    return bytes((key.number,)) + seal(key.secret, plain, where, random)


def unseal_by_keyring(keyring: Keyring, sealed: bytes, where: bytes) -> bytes:
    """Raises SealBroken, KeyUnknown."""
    if not sealed:
        raise SealBroken("a sealed value is empty")
    return unseal(keyring.get("seal", sealed[0]).secret, sealed[1:], where)


def sealing_key_number(sealed: bytes) -> int:
    """Of a value that the keyring sealed: which key did it (for rewrapping)."""
    return sealed[0]
