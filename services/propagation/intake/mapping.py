"""From an event of a bound namespace's feed to the changes that it means.

The resource is the binding's prefix and the record; items touch the aspect that the binding names for their key, and
content otherwise; a record that came into being or ended touches existence as well. The change's id and version are
those of the write, so that its receipt names the change, and a repeated event is recognised.
"""

import hashlib
from collections.abc import Iterable, Mapping

from libs.ids.ids import VERSION_BYTES
from services.propagation.domain import names
from services.propagation.domain.change import Cause, Change
from wellspring.storage.v1 import storage_admin_pb2, storage_pb2

_CAUSE_KEYS = {"kind": 64, "causer": 256, "request_id": 128}
"""Annotations of a write that say who caused it, "cause.kind" or "kind" and so on, with their limits in bytes."""


class Unmappable(Exception):
    """The record's name can be no resource's; the message says why."""


def changes_of(event: storage_pb2.ChangeEvent, namespace: str, binding: storage_admin_pb2.Binding) -> list[Change]:
    """One change, or several when it touches more aspects than one may name. Raises Unmappable."""
    resource = resource_of(event.record, binding)
    if len(event.version) != VERSION_BYTES:
        raise Unmappable(f"the version has {len(event.version)} bytes")
    aspects = _aspects(event, binding)
    change_id = event.change_id or derived_id(namespace, event.version, event.record)
    cause, attributes = _said(event.annotations)
    parts = [aspects[at : at + names.MAX_ASPECTS] for at in range(0, len(aspects), names.MAX_ASPECTS)]
    return [
        Change(
            id=change_id if at == 0 else f"{change_id}~{at}",
            resource=resource,
            aspects=tuple(part),
            version=event.version,
            cause=cause,
            lane=binding.lane if names.is_word(binding.lane) else "",
            time_ns=event.time.seconds * 1_000_000_000 + event.time.nanos,
            attributes=attributes,
        )
        for at, part in enumerate(parts)
    ]


def found_change(record: bytes, version: bytes, namespace: str, binding: storage_admin_pb2.Binding) -> Change:
    """The change that a record found by a scan stands for, when the feed no longer tells of its writes."""
    return Change(
        id=derived_id(namespace, version, record),
        resource=resource_of(record, binding),
        aspects=tuple(
            [names.CONTENT, names.EXISTENCE, *sorted(set(binding.item_aspects.values()))][: names.MAX_ASPECTS]
        ),
        version=version,
        cause=Cause(kind="scan"),
        lane=binding.lane if names.is_word(binding.lane) else "",
    )


def resource_of(record: bytes, binding: storage_admin_pb2.Binding) -> str:
    """The resource's name. Raises Unmappable."""
    try:
        resource = binding.resource_prefix + record.decode()
    except UnicodeDecodeError:
        raise Unmappable("the record's key is not UTF-8") from None
    problem = names.resource_problem(resource)
    if problem is None and resource.startswith(names.OUTPUT_PREFIX):
        problem = "is the name of a view's output"
    if problem is not None:
        raise Unmappable(f"the resource's name {problem}")
    return resource


def derived_id(namespace: str, version: bytes, record: bytes) -> str:
    """An id for a write whose event carries none; distinct from those that storage gives."""
    digest = hashlib.blake2b(record, digest_size=8).hexdigest()
    return f"found/{namespace}/{version.hex()}/{digest}"


def _aspects(event: storage_pb2.ChangeEvent, binding: storage_admin_pb2.Binding) -> list[str]:
    found: dict[str, None] = {}
    for item in event.items:
        aspect = binding.item_aspects.get(item.key.decode(errors="replace"), names.CONTENT)
        found[aspect if names.is_word(aspect) else names.CONTENT] = None
    if event.item_count > len(event.items) or not found or event.in_doubt:
        found[names.CONTENT] = None
    if event.created or event.deleted or event.in_doubt:
        found[names.EXISTENCE] = None
    if event.deleted:
        found[names.CONTENT] = None
    return list(found)


def _said(annotations: Mapping[str, str]) -> tuple[Cause, tuple[tuple[str, str], ...]]:
    """The cause that a write's annotations name, and the other annotations."""
    left = dict(annotations)
    said: dict[str, str] = {}
    for name, limit in _CAUSE_KEYS.items():
        for key in (f"cause.{name}", name):
            if key in left and name not in said:
                said[name] = _cut(left.pop(key), limit)
    cause = Cause(said.get("kind", "edit"), said.get("causer", ""), said.get("request_id", ""))
    return cause, tuple(sorted(left.items()))


def _cut(text: str, limit: int) -> str:
    return text.encode()[:limit].decode(errors="ignore")


def newest_version(items: Iterable[storage_pb2.Item]) -> bytes:
    """The highest version among a record's items, empty when none has one."""
    return max((item.version for item in items if len(item.version) == VERSION_BYTES), default=b"")
