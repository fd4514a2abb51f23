"""Which stored record a URL path means, and the path under which the cache keeps it."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes

from libs.purge.naming import PATH_SAFE
from services.gateway.domain.reads import MAX_NAME_BYTES

MAX_RECORD_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Route:
    """Paths that begin with `path_prefix` are records `record_prefix` + the rest of the path, in `namespace`.

    They are what `view` makes of the resources `resource_prefix` + the rest of the path (no view: nobody is told of
    their reads).
    """

    path_prefix: str
    namespace: str
    record_prefix: str = ""
    item_key: bytes = b""
    view: str = ""
    resource_prefix: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """A record's item that a path means. `path` is the one spelling that the cache knows.

    `view` and `resource` are what is read, for reports of reads; both empty when there is nothing to report.
    """

    path: str
    namespace: str
    record: bytes
    item_key: bytes
    view: str = ""
    resource: str = ""


class BadPath(ValueError):
    """The path means no record; the text says why."""


def canonical(path: bytes) -> str:
    """One spelling for all the ways to percent-encode the same bytes."""
    return quote(path, safe=PATH_SAFE)


def resolve(routes: Sequence[Route], raw_path: str) -> Target | None:
    """The target of a raw (percent-encoded) path; None when no route covers it. Raises BadPath."""
    path = unquote_to_bytes(raw_path)
    best: Route | None = None
    for route in routes:
        covers = path.startswith(route.path_prefix.encode())
        if covers and (best is None or len(route.path_prefix) > len(best.path_prefix)):
            best = route
    if best is None:
        return None
    record = best.record_prefix.encode() + path[len(best.path_prefix.encode()) :]
    if len(record) > MAX_RECORD_BYTES:
        raise BadPath(f"the page's name has {len(record)} bytes, at most {MAX_RECORD_BYTES} are allowed")
    try:
        text = record.decode()
    except UnicodeDecodeError:
        raise BadPath("the page's name is not UTF-8") from None
    if any(ord(c) < 0x20 or ord(c) == 0x7F for c in text):
        raise BadPath("the page's name has a control character")
    rest = text[len(best.record_prefix) :]
    if not rest:
        raise BadPath("the path names no page")
    view, resource = best.view, best.resource_prefix + rest
    if not view or len(resource.encode()) > MAX_NAME_BYTES:
        view = resource = ""
    return Target(canonical(path), best.namespace, record, best.item_key, view, resource)
