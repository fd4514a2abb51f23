"""One slice of a batch through all its steps: render, compare, store, purge; then what to tell the engine.

The order is the promise: what changed is stored before it is purged, and reported done only when every cache has
acknowledged. Whatever ends half way is reported as a failure, or not at all; the engine then leases it again.
"""

import asyncio
import logging
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from libs.purge.caches import tag_purges
from libs.purge.client import purge_of_url
from libs.render.types import RenderError, RenderRequest, RenderResult
from libs.telemetry.logs import fields
from services.propagation.executor.hashing import output_hash
from services.propagation.executor.limits import AdaptiveLimit
from services.propagation.executor.ports import Caches, Documents, Output
from services.propagation.executor.renderers import DEFAULT_MAX_OUTPUT_BYTES, Renderer, RenderFailed
from services.propagation.executor.sources import SawOlder, Sources
from services.propagation.executor.templates import Effects, effects_of
from wellspring.propagation.v1 import work_pb2
from wellspring_client.errors import WellspringError

logger = logging.getLogger(__name__)

DEFAULT_RENDER_TIMEOUT_S = 30.0
# As propagation.proto says of resources and aspects: one bad name would have the whole completion refused.
MAX_NAME_BYTES = 1024
_NAME = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]+")
_ASPECT = re.compile(r"([a-z][a-z0-9_-]{0,63})?")


@dataclass(frozen=True, slots=True)
class Item:
    """A resource to render. `accepted_hash` is that of its last accepted completion (zeros: none)."""

    id: int
    resource: str
    accepted_hash: bytes


@dataclass(slots=True)
class Failed:
    """Why an item is not done."""

    item: Item
    reason: str
    detail: str
    retryable: bool = True


@dataclass(slots=True)
class Report:
    """What became of a slice. `done` are (item, hash, dependencies)."""

    done: list[tuple[Item, bytes, list[tuple[str, str]]]] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)
    saw_older: list[Item] = field(default_factory=list)
    changed: int = 0
    renderer_seconds: float = 0.0


@dataclass(slots=True)
class _Rendered:
    item: Item
    result: RenderResult
    hash: bytes


@dataclass(frozen=True, slots=True)
class ViewRuntime:
    """A view and what this executor uses to serve it."""

    view: work_pb2.View
    renderer: Renderer
    limit: AdaptiveLimit

    @property
    def timeout_s(self) -> float:
        return self.view.render.timeout.ToTimedelta().total_seconds() or DEFAULT_RENDER_TIMEOUT_S


async def run_slice(
    runtime: ViewRuntime,
    items: Sequence[Item],
    rendered_version: bytes,
    sources: Sources,
    documents: Documents,
    caches: Caches,
) -> Report:
    """Takes the items through every step. Raises nothing of theirs: each failure is in the report."""
    report = Report()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_render(runtime, item, sources, report)) for item in items]
    rendered = [task.result() for task in tasks]
    changed: list[_Rendered] = []
    for one in rendered:
        if one is None:
            continue
        if one.hash == one.item.accepted_hash:
            _done(report, one)
        else:
            changed.append(one)
    if changed:
        await _publish(runtime.view, changed, rendered_version, documents, caches, report)
    return report


async def _render(runtime: ViewRuntime, item: Item, sources: Sources, report: Report) -> _Rendered | None:
    request = RenderRequest(resource=item.resource, view=runtime.view.name, fetch=sources.fetch)
    try:
        async with runtime.limit.slot():
            began = time.monotonic()
            try:
                async with asyncio.timeout(runtime.timeout_s):
                    result = await runtime.renderer.render(request)
            finally:
                report.renderer_seconds += time.monotonic() - began
        _check(result, item, runtime.view)
    except SawOlder:
        report.saw_older.append(item)
    except RenderFailed as error:
        report.failed.append(Failed(item, error.reason, error.detail, error.retryable))
    except RenderError as error:
        report.failed.append(Failed(item, "RENDER_ERROR", error.reason, error.retryable))
    except TimeoutError:
        report.failed.append(Failed(item, "RENDER_TIMEOUT", f"no page in {runtime.timeout_s:g} s"))
    except WellspringError as error:
        report.failed.append(Failed(item, error.reason or "SOURCE_UNAVAILABLE", error.message))
    except Exception as error:
        # A deployment's own code may raise anything; its page goes to the dead letters, the rest goes on.
        logger.exception("renderer failed", extra=fields(resource=item.resource, view=runtime.view.name))
        report.failed.append(Failed(item, "RENDERER_RAISED", type(error).__name__))
    else:
        tags = () if result.missing else tuple(result.surrogate_keys)
        body = None if result.missing else result.body
        return _Rendered(item, result, output_hash(body, result.content_type, tags))
    return None


def _check(result: RenderResult, item: Item, view: work_pb2.View) -> None:
    if not isinstance(result, RenderResult):
        raise RenderFailed("RENDERER_GARBAGE", f"gave {type(result).__name__}, not a RenderResult", retryable=False)
    limit = view.render.max_output_bytes or DEFAULT_MAX_OUTPUT_BYTES
    if len(result.body) > limit:
        detail = f"{len(result.body)} bytes, at most {limit} are allowed"
        raise RenderFailed("OUTPUT_TOO_LARGE", detail, retryable=False)
    if not result.missing and not result.body:
        raise RenderFailed("OUTPUT_EMPTY", "the renderer gave no bytes; a page that is gone is `missing`")
    if view.max_dependencies and len(result.dependencies) > view.max_dependencies:
        detail = f"{len(result.dependencies)} dependencies, at most {view.max_dependencies} are allowed"
        raise RenderFailed("TOO_MANY_DEPENDENCIES", detail, retryable=False)
    for resource, aspect in result.dependencies:
        if resource == f"view/{view.name}/{item.resource}":
            raise RenderFailed("SELF_DEPENDENCY", "a page cannot depend on its own output", retryable=False)
        if not (_NAME.fullmatch(resource) and len(resource.encode()) <= MAX_NAME_BYTES and _ASPECT.fullmatch(aspect)):
            detail = f"{resource[:80]!r} ({aspect[:64]!r}) is no resource and aspect that propagation knows"
            raise RenderFailed("DEPENDENCY_INVALID", detail, retryable=False)


async def _publish(
    view: work_pb2.View,
    changed: Sequence[_Rendered],
    rendered_version: bytes,
    documents: Documents,
    caches: Caches,
    report: Report,
) -> None:
    """Stores, then purges, what changed; reports each."""
    effects = [effects_of(view, one.item.resource) for one in changed]
    outputs = [
        Output(
            record=effect.record,
            body=None if one.result.missing else one.result.body,
            content_type=one.result.content_type,
            tags=(*effect.tags, *one.result.surrogate_keys),
        )
        for one, effect in zip(changed, effects, strict=True)
    ]
    try:
        problems = await documents.put(view.store.namespace, view.store.item_key, outputs, rendered_version)
    except WellspringError as error:
        report.failed += [Failed(one.item, error.reason or "STORE_UNAVAILABLE", error.message) for one in changed]
        return
    stored = []
    for one, effect, problem in zip(changed, effects, problems, strict=True):
        if problem is None:
            stored.append((one, effect))
        else:
            report.failed.append(Failed(one.item, "STORE_REFUSED", problem))
    unpurged = await _purge([effect for _, effect in stored], rendered_version, caches)
    for number, (one, _) in enumerate(stored):
        if number in unpurged:
            report.failed.append(Failed(one.item, "PURGE_FAILED", unpurged[number]))
        else:
            report.changed += 1
            _done(report, one)


async def _purge(effects: Sequence[Effects], rendered_version: bytes, caches: Caches) -> dict[int, str]:
    """Why a page is not purged from every cache, by its place in `effects`."""
    purges = [purge_of_url(url, rendered_version) for effect in effects for url in effect.urls]
    owners = [[number] for number, effect in enumerate(effects) for _ in effect.urls]
    # Tags of many pages go together; one that is refused leaves all of them to be purged again.
    tagged = [number for number, effect in enumerate(effects) if effect.tags]
    for purge in tag_purges((tag for number in tagged for tag in effects[number].tags), rendered_version):
        purges.append(purge)
        owners.append(tagged)
    failed = await caches.purge(purges)
    return {number: str(error) for index, error in failed.items() for number in owners[index]}


def _done(report: Report, one: _Rendered) -> None:
    report.done.append((one.item, one.hash, list(one.result.dependencies)))


def minimum_versions(batch: work_pb2.Batch) -> Mapping[str, bytes]:
    """The version that each changed input must have at least, by resource."""
    minimums: dict[str, bytes] = {}
    for root in batch.roots:
        for given in root.inputs:
            minimums[given.resource] = max(minimums.get(given.resource, b""), given.version)
    return minimums
