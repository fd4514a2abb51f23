"""Proofs of possession as RFC 9449 (DPoP) has them: a short JWT by the client's own key, for one request and one token.

Accepted are ES256 (P-256) and EdDSA (Ed25519), with the public key in the header; the session knows the key by its
thumbprint (RFC 7638). What a proof says is checked here; that it comes only once is `domain/proofs.py`'s.
"""

import base64
import binascii
import hmac
import json
import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicNumbers
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

TYPE: Final = "dpop+jwt"
LIFE_S: Final = 60
"""How old a proof may be."""
SKEW_S: Final = 10
"""How far ahead of this server's clock it may be."""
MAX_JTI_CHARS: Final = 256
THUMBPRINT_BYTES: Final = 32
_SEGMENTS: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_PORTS: Final = {"http": 80, "https": 443}


class ProofWrong(ValueError):
    """A proof that proves nothing; never told to anybody in more words."""


@dataclass(frozen=True, slots=True, repr=False)
class Claims:
    """What a good proof is known by: `name` is the same for the same proof only; it was made at `made_s`, with `nonce`
    (empty: with none)."""

    name: bytes
    made_s: int
    nonce: str = ""


def is_formed(jwt: str) -> bool:
    """Whether a text is three parts as a JWT has them, the first two objects of JSON."""
    if _SEGMENTS.fullmatch(jwt) is None:
        return False
    try:
        return all(isinstance(_object(part), dict) for part in jwt.split(".")[:2])
    except ProofWrong:
        return False


def thumbprint_of(text: str) -> bytes | None:
    """The 32 bytes of a key's thumbprint in base64url; None when it is none."""
    try:
        raw = _bytes(text)
    except ProofWrong:
        return None
    return raw if len(raw) == THUMBPRINT_BYTES and len(text) == 43 else None


def check(jwt: str, method: str, uri: str, token: bytes, thumbprint: bytes, now_s: float) -> Claims:
    """What the proof is known by, when it is by the key of this thumbprint, for this request and this token, and fresh.

    Raises ProofWrong.
    """
    if _SEGMENTS.fullmatch(jwt) is None:
        raise ProofWrong
    signed, _, signature = jwt.rpartition(".")
    header, payload = (_object(part) for part in signed.split("."))
    if header.get("typ") != TYPE or "crit" in header:
        raise ProofWrong
    own = _verified(header, signed.encode(), _bytes(signature))
    if not hmac.compare_digest(own, thumbprint):
        raise ProofWrong
    bound = base64.urlsafe_b64encode(sha256(token).digest()).rstrip(b"=").decode()
    ath, htm, htu, made_s, jti = (payload.get(name) for name in ("ath", "htm", "htu", "iat", "jti"))
    if not isinstance(ath, str) or not hmac.compare_digest(ath.encode(), bound.encode()):
        raise ProofWrong
    if htm != method or not method or not isinstance(htu, str) or _target(htu) != _target(uri):
        raise ProofWrong
    if not isinstance(made_s, int) or isinstance(made_s, bool) or not now_s - LIFE_S <= made_s <= now_s + SKEW_S:
        raise ProofWrong
    if not isinstance(jti, str) or not 1 <= len(jti) <= MAX_JTI_CHARS:
        raise ProofWrong
    nonce = payload.get("nonce", "")
    if not isinstance(nonce, str):
        raise ProofWrong
    return Claims(sha256(thumbprint + jti.encode("utf-8", "surrogatepass")).digest(), made_s, nonce)


def _verified(header: dict[str, Any], signed: bytes, signature: bytes) -> bytes:
    """The thumbprint of the key in the header, which made the signature."""
    jwk = header.get("jwk")
    if not isinstance(jwk, dict) or "d" in jwk:
        raise ProofWrong
    kind = (header.get("alg"), jwk.get("kty"), jwk.get("crv"))
    try:
        if kind == ("EdDSA", "OKP", "Ed25519"):
            Ed25519PublicKey.from_public_bytes(_bytes(jwk.get("x"))).verify(signature, signed)
            members = ["crv", "kty", "x"]
        elif kind == ("ES256", "EC", "P-256") and len(signature) == 64:
            x, y, r, s = (int.from_bytes(b, "big") for b in (*_point(jwk), signature[:32], signature[32:]))
            key = EllipticCurvePublicNumbers(x, y, SECP256R1()).public_key()
            key.verify(encode_dss_signature(r, s), signed, ECDSA(SHA256()))
            members = ["crv", "kty", "x", "y"]
        else:
            raise ProofWrong
    except (InvalidSignature, ValueError):
        raise ProofWrong from None
    text = json.dumps({name: jwk[name] for name in members}, separators=(",", ":"), sort_keys=True)
    return sha256(text.encode()).digest()


def _point(jwk: dict[str, Any]) -> tuple[bytes, bytes]:
    x, y = _bytes(jwk.get("x")), _bytes(jwk.get("y"))
    if len(x) != 32 or len(y) != 32:
        raise ProofWrong
    return x, y


def _object(part: str) -> dict[str, Any]:
    try:
        found = json.loads(_bytes(part))
    except (ValueError, RecursionError):
        raise ProofWrong from None
    if not isinstance(found, dict):
        raise ProofWrong
    return found


def _bytes(text: object) -> bytes:
    """One spelling for the same bytes: base64url without padding."""
    if not isinstance(text, str):
        raise ProofWrong
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise ProofWrong from None
    if base64.urlsafe_b64encode(raw).rstrip(b"=").decode() != text:
        raise ProofWrong
    return raw


def _target(uri: str) -> tuple[str, str, int | None, str]:
    """Scheme, host, port and path of an absolute URI without query and fragment, alike for what means the same."""
    try:
        parts: SplitResult = urlsplit(uri)
        port = parts.port
    except ValueError:
        raise ProofWrong from None
    scheme, host = parts.scheme.lower(), (parts.hostname or "").lower()
    if scheme not in _PORTS or not host or "?" in uri or "#" in uri or "@" in parts.netloc:
        raise ProofWrong
    return scheme, host, _PORTS[scheme] if port is None else port, parts.path or "/"
