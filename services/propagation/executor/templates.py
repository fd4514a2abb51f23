"""What a view's templates mean for one resource: the record it is stored in, the URLs and tags that are purged."""

from dataclasses import dataclass
from urllib.parse import quote

from libs.purge.naming import PATH_SAFE
from wellspring.propagation.v1 import work_pb2


@dataclass(frozen=True, slots=True)
class Effects:
    """Where one output goes, and what forgets its predecessor."""

    record: bytes
    urls: tuple[str, ...]
    tags: tuple[str, ...]


def effects_of(view: work_pb2.View, resource: str) -> Effects:
    """The view's templates filled in: {resource}, {name} (without the view's prefix) and {path} ({name} for a URL)."""
    prefix = next((p for p in view.resource_prefixes if resource.startswith(p)), "")
    name = resource[len(prefix) :]
    values = {"resource": resource, "name": name}
    in_url = {"resource": quote(resource, safe=""), "name": quote(name, safe=""), "path": quote(name, safe=PATH_SAFE)}
    return Effects(
        record=(view.store.record or "{resource}").format(**values).encode(),
        urls=tuple(url.format(**in_url) for url in view.purge.urls),
        tags=tuple(tag.format(**in_url) for tag in view.purge.tags),
    )
