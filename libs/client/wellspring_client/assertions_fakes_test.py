"""Assertions made by hand, and the key set that they are checked with."""

import asyncio
import base64
import json

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from wellspring.session.v1 import session_pb2 as pb
from wellspring_client.assertions import TYPE

NOW_S = 1_700_000_000
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
GOOD = {
    "iss": "wellspring-session/local",
    "aud": "cart",
    "realm": "web",
    "sid": base64.urlsafe_b64encode(bytes(32)).rstrip(b"=").decode(),
    "iat": NOW_S - 10,
    "exp": NOW_S + 50,
    "jti": "0" * 32,
    "sub": "pairwise",
    "acr": "2",
    "amr": ["pwd", "otp"],
    "auth_time": NOW_S - 100,
}
HEADER = {"alg": "EdDSA", "typ": TYPE, "kid": "k1"}


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def public(key):
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def signed(claims=GOOD, header=HEADER, key=KEY):
    """An assertion; claims and header are objects, or the bytes that stand for them."""
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, claims)]
    text = ".".join(b64(part) for part in parts)
    return f"{text}.{b64(key.sign(text.encode()))}"


def but(**changes):
    return {name: value for name, value in {**GOOD, **changes}.items() if value is not None}


class Published:
    """The service's key set, and how often it was asked for."""

    def __init__(self, max_age_s=300, **keys):
        self.keys, self.max_age_s = keys or {"k1": KEY}, max_age_s
        self.asked, self.failure = 0, None

    async def fetch(self):
        self.asked += 1
        await asyncio.sleep(0.01)
        if self.failure:
            raise self.failure
        keys = [{"kty": "OKP", "crv": "Ed25519", "kid": k, "x": b64(public(v))} for k, v in self.keys.items()]
        keys.append({"kty": "RSA", "kid": "old", "n": "AQAB"})
        return pb.GetKeySetResponse(jwks_json=json.dumps({"keys": keys}), max_age={"seconds": self.max_age_s})
