"""Messages of `resource-purge` topics to purges: the URL in meta.uri, and what may stand beside it.

The shape is that of the published schema resource_change/1.0.0. Two members are ours: `min_version` (32 hexadecimal
digits: what is at least so new may stay) and `xkeys` (a list of tags to purge instead of the URL).
"""

import json
import re
from collections.abc import Mapping

from libs.purge.client import Purge, purge_of_url

MAX_URL_CHARS = 8_192
MAX_TAGS = 100
_URL = re.compile(r"(?:https?:)?//[!-.0-~]+(?:/[!-~]*)?|/[!-~]*")
_TAG = re.compile(r"[!-~]{1,1024}")


class NoPurge(Exception):
    """The text says what is wrong with a message."""


def purge_of(message: bytes) -> Purge:
    """What the message wants purged. Raises NoPurge."""
    try:
        event = json.loads(message)
    except (ValueError, RecursionError):
        raise NoPurge("is no JSON") from None
    if not isinstance(event, Mapping):
        raise NoPurge("is no JSON object")
    version = _version(event.get("min_version"))
    tags = event.get("xkeys")
    if tags is not None:
        return Purge(min_version=version, tags=_tags(tags))
    meta = event.get("meta")
    uri = meta.get("uri") if isinstance(meta, Mapping) else None
    if not isinstance(uri, str) or not uri:
        raise NoPurge("has no meta.uri")
    if len(uri) > MAX_URL_CHARS or _URL.fullmatch(uri) is None:
        raise NoPurge("has a meta.uri that is no URL, percent-encoded, of at most 8,192 characters")
    # Relative to the protocol, as many URLs of pages are written.
    return purge_of_url(f"http:{uri}" if uri.startswith("//") else uri, version)


def _version(given: object) -> bytes:
    if given is None:
        return b""
    try:
        version = bytes.fromhex(given) if isinstance(given, str) else b""
    except ValueError:
        version = b""
    if len(version) != 16:
        raise NoPurge("has a min_version that is not 32 hexadecimal digits")
    return version


def _tags(given: object) -> tuple[str, ...]:
    tags = tuple(given) if isinstance(given, list) else ()
    if not 1 <= len(tags) <= MAX_TAGS or not all(isinstance(tag, str) and _TAG.fullmatch(tag) for tag in tags):
        raise NoPurge(f"has xkeys that are not 1 to {MAX_TAGS} tags of printable ASCII without blanks")
    return tags
