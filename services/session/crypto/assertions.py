"""Short signed statements about a session, which others check without a call: JWTs of one algorithm (EdDSA, Ed25519).

They say which session (a hash of its handle), whose (in the audience's own pairwise form), how surely, and until when:
at most 60 s, never past the session. What checks them pins algorithm, type and audience.
"""

import base64
import json
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from services.session.crypto.keyring import Key, Keyring

TYPE: Final = "wss-assertion+jwt"


def sign(keyring: Keyring, claims: dict[str, Any]) -> str:
    """A compact JWS of the claims by the active key."""
    key = keyring.active("sign")
    header = {"alg": "EdDSA", "typ": TYPE, "kid": key.key_id}
    text = b".".join(_b64(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims))
    return (text + b"." + _b64(_private(key).sign(text))).decode()


def sign_bytes(keyring: Keyring, data: bytes) -> tuple[str, bytes]:
    """The id of the active signing key, and its signature of bytes that are no assertion: of heads of the audit."""
    key = keyring.active("sign")
    return key.key_id, _private(key).sign(data)


def key_set(keyring: Keyring) -> str:
    """The public halves of all signing keys, the next one included, as RFC 7517 and RFC 8037 write them."""
    keys = []
    for key in keyring.everything():
        if key.purpose == "sign":
            public = _private(key).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
            jwk = {"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": key.key_id}
            keys.append({**jwk, "x": _b64(public).decode()})
    return json.dumps({"keys": keys}, separators=(",", ":"))


def _private(key: Key) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(key.derive("ed25519"))


def _b64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
