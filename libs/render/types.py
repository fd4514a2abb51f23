"""What an executor and a renderer say to each other: one request, one result, and nothing about either's insides.

A renderer is an async function `RenderRequest -> RenderResult`. It reads only through `request.fetch`, so that
everything it read can be declared as a dependency, and it raises only `RenderError`. Its output must be a pure function
of what it fetched: the same documents give the same bytes, or the cutoff of unchanged pages cannot work.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

CONTENT = "content"
"""Aspect: what a resource says."""

EXISTENCE = "existence"
"""Aspect: whether a resource is there at all; all that a link to it depends on."""


@dataclass(frozen=True, slots=True)
class Document:
    """A stored resource as it was read: its bytes, its 16-byte version (compared bytewise) and its media type."""

    value: bytes
    version: bytes
    content_type: str


Fetch = Callable[[list[str]], Awaitable[dict[str, Document | None]]]
"""Reads resources by name: any number of names, every one a key of the answer, None where nothing is stored."""


@dataclass(frozen=True, slots=True)
class RenderRequest:
    """Make `view` of `resource` (a name such as `enwiki/page/Algorithm`), reading through `fetch`."""

    resource: str
    view: str
    fetch: Fetch


@dataclass(frozen=True, slots=True)
class RenderResult:
    """The rendered bytes and all that they were made from.

    `dependencies` are (resource, aspect) pairs, sorted, without duplicates; the rendered resource itself is not among
    them. `surrogate_keys` are tags for caches: printable ASCII without spaces. `missing` says that the resource is not
    stored; the body is then a page that says so.
    """

    body: bytes
    content_type: str
    dependencies: list[tuple[str, str]] = field(default_factory=list)
    surrogate_keys: list[str] = field(default_factory=list)
    missing: bool = False


class RenderError(Exception):
    """The resource cannot be rendered. The text says what, where and what is allowed; it is safe to show to a user.

    `retryable` is true when the same request may succeed later (an input that could not be read), false when only an
    edit can help (an input that is not valid).
    """

    def __init__(self, reason: str, *, retryable: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retryable = retryable


Render = Callable[[RenderRequest], Awaitable[RenderResult]]
"""The type of a renderer."""


def surrogate_key(resource: str) -> str:
    """The cache tag of a resource: its name with every byte outside `!`..`~`, and `%`, written as `%XX`.

    Tags travel in a header whose members are separated by spaces, so they may hold neither spaces nor non-ASCII.
    """
    return "".join(chr(b) if 0x21 <= b <= 0x7E and b != 0x25 else f"%{b:02X}" for b in resource.encode())


def dependency_list(pairs: Sequence[tuple[str, str]] | frozenset[tuple[str, str]]) -> list[tuple[str, str]]:
    """The pairs once each and in order, as `RenderResult.dependencies` wants them."""
    return sorted(set(pairs))
