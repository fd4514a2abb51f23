"""What goes through an executor's steps: an item of a batch, the page made of it, and why there is none."""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from libs.ids.ids import VERSION_BYTES
from wellspring.propagation.v1 import work_pb2
from wellspring_client import packed

DEFAULT_MAX_OUTPUT_BYTES = 8 << 20
DEFAULT_RENDER_TIMEOUT_S = 30.0
# As propagation.proto says of resources and aspects: one bad name would have the whole completion refused.
MAX_NAME_BYTES = 1024
MAX_CONTENT_TYPE = 128
_NAME = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]+")
_ASPECT = re.compile(r"([a-z][a-z0-9_-]{0,63})?")
_TAG = re.compile(r"[!-~]+")
_CONTENT_TYPE = re.compile(rf"[ -~]{{0,{MAX_CONTENT_TYPE}}}")
_CACHED_SETS = 32
_OUTPUTS = "view/"

Dependencies = tuple[tuple[str, str], ...]
"""(resource, aspect) each; an empty aspect is the content."""


class Item(NamedTuple):
    """A resource to render. `accepted_hash` is that of its last accepted completion (zeros: none); `attempts` failed
    before. `gone_version`: as of which version its home told that it is gone (empty: it did not)."""

    id: int
    resource: str
    accepted_hash: bytes
    attempts: int = 0
    gone_version: bytes = b""


@dataclass(slots=True)
class Page:
    """What a renderer made. `dependencies` None: the renderer does not know, and those declared before stay.
    `stored_as` is the version that the store has it under already, or as of which it is gone there; empty: unknown."""

    body: bytes
    content_type: str
    dependencies: Dependencies | None
    tags: tuple[str, ...]
    missing: bool = False
    stored_as: bytes = b""


class RenderFailed(Exception):
    """There is no page. `retryable` unless trying again cannot help; `retry_after_s` 0: as the engine likes."""

    def __init__(self, reason: str, detail: str, *, retryable: bool = True, retry_after_s: float = 0.0) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.retryable = retryable
        self.retry_after_s = retry_after_s


class SawOlder(Exception):
    """An input is older than the change that asked for the render: a replica lags behind."""


class Withheld(Exception):
    """Nothing was asked of the renderer: its target is left alone. No attempt."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"held back for {retry_after_s:g} s")
        self.retry_after_s = retry_after_s


Outcome = Page | RenderFailed | SawOlder | Withheld


def items_of(batch: work_pb2.Batch) -> list[Item]:
    """What the batch asks for, in its order."""
    ids = packed.decode_ids(batch.ids).tolist()
    names = batch.names.decode().split("\0")
    hashes = batch.accepted_hashes
    attempts = packed.decode_counts(batch.attempts).tolist()
    before = dict(zip(attempts[::2], attempts[1::2], strict=True))
    accepted = [hashes[at : at + packed.HASH_BYTES] for at in range(0, len(hashes), packed.HASH_BYTES)]
    tried = [before.get(at, 0) for at in range(len(ids))] if before else [0] * len(ids)
    ends = _ends(batch.gone_versions) if batch.gone_versions else [b""] * len(ids)
    return list(map(Item._make, zip(ids, names, accepted, tried, ends, strict=True)))


def _ends(versions: bytes) -> list[bytes]:
    found = [versions[at : at + VERSION_BYTES] for at in range(0, len(versions), VERSION_BYTES)]
    return [version if any(version) else b"" for version in found]


def check_page(page: Page, item: Item, view: work_pb2.View, max_output_bytes: int) -> RenderFailed | None:
    """Why the page cannot be taken, if it cannot; the rest of its batch can."""
    if len(page.body) > max_output_bytes:
        detail = f"{len(page.body)} bytes, at most {max_output_bytes} are allowed"
        return RenderFailed("OUTPUT_TOO_LARGE", detail, retryable=False)
    if not page.body and not page.missing:
        return RenderFailed("OUTPUT_EMPTY", "the renderer gave no bytes; a page that is gone is `missing`")
    if len(page.content_type) > MAX_CONTENT_TYPE or not _known_content_type(page.content_type):
        detail = f"a content type is at most {MAX_CONTENT_TYPE} characters of printable ASCII"
        return RenderFailed("RENDERER_GARBAGE", detail, retryable=False)
    for tag in page.tags:
        if not _TAG.fullmatch(tag):
            detail = f"the tag {tag[:80]!r} is not printable ASCII without blanks"
            return RenderFailed("TAG_INVALID", detail, retryable=False)
    dependencies = page.dependencies
    if not dependencies:
        return None
    if view.max_dependencies and len(dependencies) > view.max_dependencies:
        detail = f"{len(dependencies)} dependencies, at most {view.max_dependencies} are allowed"
        return RenderFailed("TOO_MANY_DEPENDENCIES", detail, retryable=False)
    for resource, _ in dependencies:
        if resource.startswith(_OUTPUTS) and resource == f"{_OUTPUTS}{view.name}/{item.resource}":
            return RenderFailed("SELF_DEPENDENCY", "a page cannot depend on its own output", retryable=False)
    problem = _known_problem(dependencies) if len(dependencies) <= _CACHED_SETS else _problem(dependencies)
    return RenderFailed("DEPENDENCY_INVALID", problem, retryable=False) if problem else None


def _content_type_is_fit(content_type: str) -> bool:
    return _CONTENT_TYPE.fullmatch(content_type) is not None


def _problem(dependencies: Dependencies) -> str:
    for resource, aspect in dependencies:
        if not (_NAME.fullmatch(resource) and len(resource.encode()) <= MAX_NAME_BYTES and _ASPECT.fullmatch(aspect)):
            return f"{resource[:80]!r} ({aspect[:64]!r}) is no resource and aspect that propagation knows"
    return ""


# There are few of them.
_known_content_type = lru_cache(maxsize=64)(_content_type_is_fit)
# Pages of one change often depend on the very same.
_known_problem = lru_cache(maxsize=1024)(_problem)
