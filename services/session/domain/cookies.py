"""What a caller has seen of a session, to be shown in another data centre: "as new as this, or not at all".

A cookie is 8 bytes of the handle's SHA-256 and the session's revision, base64url: no secret, and of no use to anybody
but whom the session belongs to. Where one data centre keeps sessions every read sees every write; cookies are empty.
"""

import base64
import binascii
import struct
from hashlib import sha256
from typing import Final

from libs.errors.errors import InvalidArgument
from services.session.domain.tools import Tools

_FORM: Final = struct.Struct(">8sq")


def cookie(tools: Tools, handle: str, revision: int) -> str:
    """What names a session's revision."""
    if not tools.others:
        return ""
    return base64.urlsafe_b64encode(_FORM.pack(_name(handle), revision)).decode()


def wanted(text: str, handle: str) -> int:
    """The revision of this session that must be seen at least: 0 for any, as where the cookie is another session's.
    Raises InvalidArgument for what is no cookie."""
    if not text:
        return 0
    try:
        name, revision = _FORM.unpack(base64.b64decode(text, altchars=b"-_", validate=True))
    except (binascii.Error, struct.error, ValueError):
        raise InvalidArgument.field("cookie", "is none that this service gave") from None
    return int(revision) if name == _name(handle) else 0


def _name(handle: str) -> bytes:
    return sha256(handle.encode()).digest()[:8]
