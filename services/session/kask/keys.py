"""The key in a path: one segment behind the base path, percent-decoded once.

What `rawurlencode` makes of a key is read back exactly, also when the key holds a slash. A key is text, as in Kask
(whose column is one), without control characters: a line break or a NUL in a session's key is somebody's attack.
"""

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from services.session.domain.opaque import MAX_KEY_BYTES
from services.session.kask.problems import Problem

_ESCAPES: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")


def parse(raw: str) -> bytes:
    """The key of a raw path's rest. Raises Problem: 404 for no key or more than one segment, as Kask does; 400."""
    if not raw or "/" in raw:
        raise Problem(404)
    if _ESCAPES.search(raw) is not None or not raw.isascii():
        raise Problem(400, "The key is not percent-encoded: a % and two hexadecimal digits stand for a byte")
    key = unquote_to_bytes(raw)
    if len(key) > MAX_KEY_BYTES:
        raise Problem(400, f"The key is too long: 1 to {MAX_KEY_BYTES} bytes are allowed")
    try:
        printable = not any(character < " " or "\x7f" <= character < "\xa0" for character in key.decode("utf-8"))
    except UnicodeDecodeError:
        printable = False
    if not printable:
        raise Problem(400, "The key is no UTF-8 text, or has control characters")
    return key
