"""Nonces that proofs of possession must carry where a realm asks for them (RFC 9449, section 8).

A nonce is made from the time by a key of the keyring, so that no server remembers any, and each knows those of the
others. With it a proof cannot have been made before: not by whoever had the client's key for a while, and not by a
client whose clock is wrong.
"""

import base64
import hmac
from hashlib import sha256
from typing import Final

from services.session.crypto.keyring import Keyring

STEP_S: Final = 120
"""A nonce is good in the step that it was made in, and in the next one."""
_BYTES: Final = 16


def nonce(keyring: Keyring, realm: str, now_s: float) -> str:
    """The realm's nonce of this moment: 22 characters."""
    return _of_step(keyring, realm, int(now_s) // STEP_S)


def is_fresh(keyring: Keyring, realm: str, text: str, now_s: float) -> bool:
    """Whether the text is a nonce of now; of another server, whose clock may be a little ahead, as well."""
    step = int(now_s) // STEP_S
    given, fresh = text.encode("utf-8", "replace"), False
    for one in (step - 1, step, step + 1):
        fresh |= hmac.compare_digest(given, _of_step(keyring, realm, one).encode())
    return fresh


def _of_step(keyring: Keyring, realm: str, step: int) -> str:
    key = keyring.active("pairwise").derive("nonces of proofs")
    digest = hmac.digest(key, f"{realm}\0{step}".encode(), sha256)[:_BYTES]
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
