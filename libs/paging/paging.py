"""Page tokens: where a list goes on, sealed so that it serves only the request that it was made for.

A token is, in base64url without padding::

    version (1 byte) · key id (4) · expiry, Unix seconds (5) · cursor · HMAC-SHA-256 cut to 16 bytes

The HMAC covers all before it and the request's identity: the method, and every argument that decides what is listed.
Hence a token cannot be forged, moved to another method, parent or filter, or used after its expiry; a page size may
change from page to page. The cursor is not encrypted: put nothing into it that the caller may not see. 16 bytes of HMAC
are the strength of the AES-128 class (RFC 2104, section 5: no less than half of the digest).
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence

from libs.clock.clock import Clock
from libs.errors.errors import InvalidArgument

KEY_BYTES = 32
DEFAULT_TTL_S = 24 * 3600

_VERSION = b"\x01"
_MAC_BYTES = 16
_HEAD_BYTES = 1 + 4 + 5
_MAX_TOKEN_CHARS = 8192


class PageTokens:
    """Issues and opens the tokens of one service."""

    def __init__(self, keys: Sequence[bytes], clock: Clock, ttl_s: int = DEFAULT_TTL_S) -> None:
        """``keys``: 32 random bytes each, shared by all servers of the service. The first issues; all open, so that a
        key is changed by putting a new one first and dropping the old one after ``ttl_s``. Raises ValueError for no key
        or one of another length.
        """
        if not keys or any(len(key) != KEY_BYTES for key in keys):
            raise ValueError(f"page tokens need at least one key, each of {KEY_BYTES} bytes")
        self._keys = {_key_id(key): key for key in keys}
        self._issuing = _key_id(keys[0])
        self._clock = clock
        self._ttl_s = ttl_s

    def issue(self, cursor: bytes, *, method: str, identity: Sequence[str | bytes]) -> str:
        """A token for going on at ``cursor``. ``identity`` lists the arguments that decide what is listed, in a fixed
        order.
        """
        expiry_s = self._clock.time_ns() // 10**9 + self._ttl_s
        body = _VERSION + self._issuing + expiry_s.to_bytes(5, "big") + cursor
        mac = _mac(self._keys[self._issuing], body, method, identity)
        return base64.urlsafe_b64encode(body + mac).rstrip(b"=").decode()

    def open(self, token: str, *, method: str, identity: Sequence[str | bytes]) -> bytes | None:
        """The cursor of ``token``; None for an empty token, which asks for the first page.

        Raises InvalidArgument naming ``page_token``, reason PAGE_TOKEN_INVALID when it was not issued for this request
        (or at all), PAGE_TOKEN_EXPIRED when it is too old.
        """
        if not token:
            return None
        sealed = _decode(token)
        body, mac = sealed[:-_MAC_BYTES], sealed[-_MAC_BYTES:]
        key = self._keys.get(body[1:5])
        if len(body) < _HEAD_BYTES or body[:1] != _VERSION or key is None:
            raise _foreign()
        if not hmac.compare_digest(mac, _mac(key, body, method, identity)):
            raise _foreign()
        if int.from_bytes(body[5:_HEAD_BYTES], "big") < self._clock.time_ns() // 10**9:
            what = f"has expired: tokens live {self._ttl_s // 3600} hours; begin again without a token"
            raise InvalidArgument.field("page_token", what, reason="PAGE_TOKEN_EXPIRED")
        return body[_HEAD_BYTES:]


def _decode(token: str) -> bytes:
    if len(token) > _MAX_TOKEN_CHARS:
        raise _foreign()
    try:
        sealed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        raise _foreign() from None
    # One text for one token: unused bits at the end of the last character are zero.
    if base64.urlsafe_b64encode(sealed).rstrip(b"=").decode() != token:
        raise _foreign()
    return sealed


def _foreign() -> InvalidArgument:
    what = (
        "was not issued for this request; pass next_page_token of the answer before, with the same other arguments,"
        " or leave it out"
    )
    return InvalidArgument.field("page_token", what, reason="PAGE_TOKEN_INVALID")


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(b"wellspring page token key\0" + key).digest()[:4]


def _mac(key: bytes, body: bytes, method: str, identity: Sequence[str | bytes]) -> bytes:
    mac = hmac.new(key, digestmod=hashlib.sha256)
    for part in (method, *identity, body):
        encoded = part.encode() if isinstance(part, str) else part
        mac.update(len(encoded).to_bytes(8, "big"))
        mac.update(encoded)
    return mac.digest()[:_MAC_BYTES]
