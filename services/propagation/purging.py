"""Purges by hand: a page, a tag, or whatever the views purge for a resource, at every cache of the engine's."""

import re
from collections.abc import Callable, Sequence

from google.rpc import status_pb2  # type: ignore[import-untyped]

from libs.errors.errors import Code, FailedPrecondition, InvalidArgument, NotFound
from libs.ids.ids import VERSION_BYTES
from libs.purge.caches import Caches, tag_purges
from libs.purge.client import Purge, purge_of_url
from services.propagation.domain.names import OUTPUT_PREFIX, check_resource
from services.propagation.executor.templates import effects_of
from wellspring.propagation.v1 import propagation_admin_pb2, work_pb2

MAX_BYTES = 4096
"""Of a URL or a tag."""

_URL = re.compile(r"(https?://[!-.0-~]+)?/[!-~]*")
_TAG = re.compile(r"[!-~]+")


class Purging:
    """`views` gives those in force."""

    def __init__(self, caches: Caches, views: Callable[[], Sequence[work_pb2.View]]) -> None:
        self._caches = caches
        self._views = views

    async def purge(self, request: propagation_admin_pb2.PurgeRequest) -> propagation_admin_pb2.PurgeResponse:
        """A result for each cache, inner to outer. Raises InvalidArgument, NotFound for a resource that no view
        purges, FailedPrecondition when there are no caches."""
        purges = self._purges(request)
        if not self._caches.layers:
            raise FailedPrecondition(
                "no caches are configured: name them under `caches` in the engine's configuration", reason="NO_CACHES"
            )
        response = propagation_admin_pb2.PurgeResponse()
        for name, failed in await self._caches.purge_each(purges):
            status = status_pb2.Status()
            if failed:
                more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
                status = status_pb2.Status(code=Code.UNAVAILABLE, message=f"{failed[min(failed)]}{more}")
            response.results.add(cache=name, status=status)
        return response

    def _purges(self, request: propagation_admin_pb2.PurgeRequest) -> list[Purge]:
        version = request.min_version
        if len(version) not in (0, VERSION_BYTES):
            raise InvalidArgument.field("min_version", f"has {len(version)} bytes; {VERSION_BYTES} or none are allowed")
        match request.WhichOneof("target"):
            case "url":
                _check(request.url, "url", _URL, "a path or a URL, percent-encoded, is allowed")
                return [purge_of_url(request.url, version)]
            case "tag":
                _check(request.tag, "tag", _TAG, "printable ASCII without blanks is allowed")
                return [Purge(min_version=version, tags=(request.tag,))]
            case "resource":
                return self._of_resource(request.resource, version)
        raise InvalidArgument.field("target", "is not set; one of url, tag, resource is needed")

    def _of_resource(self, name: str, version: bytes) -> list[Purge]:
        """The purges of every view that covers the resource; of one view only, when it names that view's output."""
        check_resource(name, "resource")
        only, resource = "", name
        if name.startswith(OUTPUT_PREFIX):
            only, _, resource = name.removeprefix(OUTPUT_PREFIX).partition("/")
        effects = [
            effects_of(view, resource)
            for view in self._views()
            if (not only or view.name == only) and resource.startswith(tuple(view.resource_prefixes))
        ]
        purges = [purge_of_url(url, version) for effect in effects for url in effect.urls]
        purges += tag_purges((tag for effect in effects for tag in effect.tags), version)
        if not purges:
            raise NotFound(
                f"no view {'covers' if not effects else 'purges anything for'} {name}", reason="NOTHING_TO_PURGE"
            )
        return list(dict.fromkeys(purges))


def _check(text: str, path: str, allowed: re.Pattern[str], rule: str) -> None:
    if len(text) > MAX_BYTES:
        raise InvalidArgument.field(path, f"has {len(text):,} characters; {MAX_BYTES:,} are allowed")
    if allowed.fullmatch(text) is None:
        raise InvalidArgument.field(path, f"is {text[:80]!r}; {rule}")
