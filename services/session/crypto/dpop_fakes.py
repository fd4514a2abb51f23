"""A client that holds a key, for tests: makes proofs of possession, good ones and any other."""

import base64
import json
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256


def b64(data: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class ClientKey:
    """A key of ``alg`` ("ES256" or "EdDSA") and the proofs it signs."""

    def __init__(self, alg: str = "ES256") -> None:
        self.alg = alg
        self._ec = ec.generate_private_key(ec.SECP256R1())
        self._ed = ed25519.Ed25519PrivateKey.generate()
        self._made = 0

    @property
    def jwk(self) -> dict[str, str]:
        """The public key."""
        if self.alg == "EdDSA":
            return {"kty": "OKP", "crv": "Ed25519", "x": b64(self._ed.public_key().public_bytes_raw())}
        numbers = self._ec.public_key().public_numbers()
        x, y = (b64(n.to_bytes(32, "big")) for n in (numbers.x, numbers.y))
        return {"kty": "EC", "crv": "P-256", "x": x, "y": y}

    @property
    def thumbprint(self) -> bytes:
        """As RFC 7638 has it."""
        return sha256(json.dumps(self.jwk, separators=(",", ":"), sort_keys=True).encode()).digest()

    def proof(self, token: bytes, now_s: float, *, header: Any = None, **claims: Any) -> str:
        """A good proof for GET https://app.example/page, but for what is given."""
        self._made += 1
        head = {"typ": "dpop+jwt", "alg": self.alg, "jwk": self.jwk} | (header or {})
        said = {"jti": f"p{id(self)}-{self._made}", "htm": "GET", "htu": "https://app.example/page"}
        body = said | {"iat": int(now_s), "ath": b64(sha256(token).digest())} | claims
        signed = ".".join(b64(json.dumps(part).encode()) for part in (head, body))
        return f"{signed}.{b64(self._signature(signed.encode()))}"

    def _signature(self, signed: bytes) -> bytes:
        if self.alg == "EdDSA":
            return self._ed.sign(signed)
        r, s = decode_dss_signature(self._ec.sign(signed, ec.ECDSA(SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")
