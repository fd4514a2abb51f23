"""Requests as bytes: whatever could end a line, and so begin a header or a request of its own, is refused."""

import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from services.propagation.targets.settings import TargetSettings

IDEMPOTENT = frozenset({"GET", "PUT", "DELETE", "OPTIONS", "PURGE"})
"""RFC 9110, section 9.2.2, and PURGE, which forgets what may be forgotten already."""

_METHOD = re.compile(r"[A-Z]{1,16}")
_TARGET = re.compile(r"/[\x21-\x7e]*")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\x20-\x7e\t]*")
# Framing is this client's own business; the others are set from the target.
_OWN = frozenset({"content-length", "transfer-encoding", "connection", "host", "accept-encoding", "expect", "te"})


class RequestInvalid(ValueError):
    """No such request can be made; the text says what is wrong and what is allowed."""


def path_of(url: str) -> str:
    """What stands after the origin: the path and the query; "/" for none."""
    parts = urlsplit(url)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def check_target(path: str) -> str:
    """The path as it is. Raises RequestInvalid unless it is printable ASCII without blanks, beginning with "/"."""
    if not _TARGET.fullmatch(path):
        raise RequestInvalid(f"{path[:200]!r} is no path of a request; percent-encode it")
    return path


def head_of(settings: TargetSettings, headers: Iterable[tuple[str, str]]) -> bytes:
    """The header lines that each request of one kind has, without the empty line. Raises RequestInvalid.

    Compressed answers are not asked for: the bytes are compared and stored as they are.
    """
    host = settings.origin.partition("://")[2]
    default = ":443" if settings.origin.startswith("https:") else ":80"
    lines = [f"Host: {host.removesuffix(default)}"]
    given = set()
    for name, value in headers:
        lines.append(_line(name, value))
        given.add(name.lower())
    if "user-agent" not in given:
        lines.append(_line("User-Agent", settings.user_agent))
    if settings.authorization and "authorization" not in given:
        lines.append(_line("Authorization", settings.authorization))
    return "".join(f"{line}\r\n" for line in lines).encode("ascii")


def start_of(method: str) -> bytes:
    """The first bytes of a request. Raises RequestInvalid for what is no method.

    Answers to HEAD and CONNECT have another framing, which is not understood here.
    """
    if not _METHOD.fullmatch(method) or method in ("HEAD", "CONNECT"):
        raise RequestInvalid(f"{method!r} is no method to call; GET, POST, PUT and the like are allowed")
    return method.encode() + b" "


def request(start: bytes, path: bytes, head: bytes, body: bytes | None = None) -> bytes:
    """The whole request. `path` must have been checked, or percent-encoded; None is no body at all."""
    end = end_of(head.decode("ascii"), None if body is None else len(body))
    return b"%b%b%b%b" % (start, path, end.encode("ascii"), body or b"")


def end_of(head: str, body_bytes: int | None = None) -> str:
    """What stands in a request after its path and before its body; None is no body at all."""
    return (
        f" HTTP/1.1\r\n{head}\r\n" if body_bytes is None else f" HTTP/1.1\r\n{head}Content-Length: {body_bytes}\r\n\r\n"
    )


def _line(name: str, value: str) -> str:
    if not _NAME.fullmatch(name):
        raise RequestInvalid(f"{name!r} is no name of a header")
    if name.lower() in _OWN:
        raise RequestInvalid(f"the header {name} is the client's own; leave it out")
    if not _VALUE.fullmatch(value):
        raise RequestInvalid(f"the header {name} has a value with characters that are not allowed; printable ASCII is")
    return f"{name}: {value}"
