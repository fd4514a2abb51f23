"""The published keys that assertions are signed with: fetched, kept as long as the service says, fetched anew for a key
that is not known, and never more often than every few seconds, whoever asks.

Needs the package ``cryptography``.
"""

import asyncio
import base64
import binascii
import json
from collections.abc import Awaitable, Callable
from typing import Final

from wellspring.session.v1 import session_pb2 as pb
from wellspring_client.errors import ServerFault, Unavailable, WellspringError

try:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
except ImportError as error:
    raise ImportError(
        "assertions are checked with the package cryptography, which is not installed: pip install cryptography"
    ) from error

REFETCH_S: Final = 5.0
"""Fetches are at least this far apart, so that assertions with invented key ids do not become calls."""
_LONGEST_S: Final = 86_400.0
_MOST_KEYS: Final = 64


def unb64(text: str) -> bytes:
    """The bytes of base64url without padding; one spelling only (leftover bits are refused). Raises ValueError."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise ValueError("not base64url") from None
    if base64.urlsafe_b64encode(raw).rstrip(b"=").decode() != text:
        raise ValueError("not base64url in its one spelling")
    return raw


class KeySet:
    """``fetch`` asks for the keys: ``client.session.published_keys``. Belongs to one event loop.

    Keys are fetched again after half of the age that the service allows; while that fails the old ones are used until
    the whole age is over.
    """

    def __init__(self, fetch: Callable[[], Awaitable[pb.GetKeySetResponse]], *, refetch_s: float = REFETCH_S) -> None:
        if not refetch_s > 0:
            raise ValueError(f"refetch_s is a number of seconds above 0: got {refetch_s}")
        self._fetch = fetch
        self._refetch_s = refetch_s
        self._keys: dict[str, Ed25519PublicKey] = {}
        self._got_s = self._old_s = 0.0
        self._tried_s: float | None = None
        self._failure: WellspringError | None = None
        self._lock = asyncio.Lock()

    async def verifies(self, key_id: str, signature: bytes, data: bytes) -> bool | None:
        """Whether this key signed it; None: no such key. Raises Unavailable when the keys cannot be known now."""
        key = await self._find(key_id)
        if key is None:
            return None
        try:
            key.verify(signature, data)
        except InvalidSignature:
            return False
        return True

    async def _find(self, key_id: str) -> Ed25519PublicKey | None:
        now_s = asyncio.get_running_loop().time()
        if key_id not in self._keys or now_s >= self._got_s + (self._old_s - self._got_s) / 2:
            async with self._lock:
                await self._refresh(key_id)
        if asyncio.get_running_loop().time() >= self._old_s or (key_id not in self._keys and self._failure):
            why = self._failure.message if self._failure else "they are too old"
            raise Unavailable(f"the keys of assertions are not known now: {why}")
        return self._keys.get(key_id)

    async def _refresh(self, key_id: str) -> None:
        """One fetch, unless there was one a moment ago, or another task has just brought the key."""
        now_s = asyncio.get_running_loop().time()
        if self._tried_s is not None and now_s < self._tried_s + self._refetch_s:
            return
        if key_id in self._keys and now_s < self._got_s + (self._old_s - self._got_s) / 2:
            return
        self._tried_s = now_s
        try:
            answer = await self._fetch()
            keys = _parsed(answer.jwks_json)
        except WellspringError as error:
            self._failure = error
            return
        age_s = answer.max_age.ToNanoseconds() / 1e9
        self._keys, self._failure = keys, None
        self._got_s, self._old_s = now_s, now_s + min(max(age_s, self._refetch_s), _LONGEST_S)


def _parsed(text: str) -> dict[str, Ed25519PublicKey]:
    """The Ed25519 keys of RFC 7517's JSON by their ids; keys of other kinds are left out. Raises ServerFault."""
    try:
        entries = json.loads(text)["keys"]
        found = [one for one in entries if (one["kty"], one.get("crv")) == ("OKP", "Ed25519")]
        keys = {str(one["kid"]): Ed25519PublicKey.from_public_bytes(unb64(one["x"])) for one in found[:_MOST_KEYS]}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ServerFault("the service's key set is not one of RFC 7517") from None
    return keys
