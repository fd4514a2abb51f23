"""Namespaces between the contract's messages and the domain's values."""

import dataclasses
from collections.abc import Mapping
from typing import Final

from google.protobuf.duration_pb2 import Duration

from libs.errors.errors import InvalidArgument
from services.storage.answers import timestamp
from services.storage.domain.model import Mode
from services.storage.domain.namespace import (
    Binding,
    Cache,
    Caller,
    Consistency,
    Deployment,
    Namespace,
    Placement,
    Quota,
    Retention,
    Settings,
)
from services.storage.requests import check_consistency, read_duration
from wellspring.storage.v1 import storage_admin_pb2 as admin_pb
from wellspring.storage.v1 import storage_pb2 as pb

_MODES: Final[dict[int, Mode]] = {admin_pb.MODE_LWW: Mode.LWW, admin_pb.MODE_CAS: Mode.CAS}
CONSISTENCIES: Final[dict[int, Consistency]] = {
    pb.CONSISTENCY_EVENTUAL: Consistency.EVENTUAL,
    pb.CONSISTENCY_LOCAL: Consistency.LOCAL,
    pb.CONSISTENCY_STRONG_LOCAL: Consistency.STRONG_LOCAL,
    pb.CONSISTENCY_STRONG_GLOBAL: Consistency.STRONG_GLOBAL,
}
"""Without the unspecified one, which is the namespace's own."""
_MODE_NUMBERS: Final = {mode: number for number, mode in _MODES.items()}
_CONSISTENCY_NUMBERS: Final = {consistency: number for number, consistency in CONSISTENCIES.items()}


def to_settings(message: admin_pb.Namespace, deployment: Deployment, path: str = "namespace") -> Settings:
    """The settings that a message asks for, completed by the deployment's defaults. Raises InvalidArgument for what
    cannot be read; limits are the domain's to check."""
    mode = _MODES.get(message.mode)
    if mode is None:
        raise InvalidArgument.field(f"{path}.mode", f"is {message.mode}; MODE_LWW and MODE_CAS are allowed")
    check_consistency(message.default_consistency)
    binding = None
    if message.HasField("binding"):
        bound = message.binding
        binding = Binding(bound.resource_prefix, bound.lane, _pairs(bound.item_aspects))
    drift_us = deployment.drift_us
    if message.HasField("max_clock_drift"):
        drift_us = read_duration(message.max_clock_drift, f"{path}.max_clock_drift")
    return Settings(
        name=message.name,
        mode=mode,
        default_consistency=CONSISTENCIES.get(message.default_consistency, Consistency.LOCAL),
        placement=Placement(tuple(message.placement.datacentres), message.placement.home_datacentre),
        retention=_retention(message.retention, deployment, f"{path}.retention"),
        quota=_quota(message, deployment.quota),
        callers=tuple(Caller(one.identity, one.read, one.write) for one in message.callers),
        binding=binding,
        cache=Cache(message.cache.enabled, read_duration(message.cache.max_age, f"{path}.cache.max_age")),
        max_clock_drift_us=drift_us,
        description=message.description,
        labels=_pairs(message.labels),
    )


def to_message(namespace: Namespace) -> admin_pb.Namespace:
    """A namespace as its message, every setting spelt out."""
    settings, retention = namespace.settings, namespace.settings.retention
    message = admin_pb.Namespace(
        name=namespace.name,
        mode=_MODE_NUMBERS[settings.mode],  # type: ignore[arg-type]  # the numbers are the contract's
        default_consistency=_CONSISTENCY_NUMBERS[settings.default_consistency],  # type: ignore[arg-type]
        placement=admin_pb.Placement(
            datacentres=settings.placement.datacentres, home_datacentre=settings.placement.home_datacentre
        ),
        retention=admin_pb.Retention(
            max_versions=retention.max_versions, feed_window=duration(retention.feed_window_us)
        ),
        quota=admin_pb.Quota(**dataclasses.asdict(settings.quota)),
        callers=[admin_pb.Caller(identity=one.identity, read=one.read, write=one.write) for one in settings.callers],
        cache=admin_pb.Cache(enabled=settings.cache.enabled),
        max_clock_drift=duration(settings.max_clock_drift_us),
        description=settings.description,
        labels=dict(settings.labels),
        state=_state(namespace),
        create_time=timestamp(namespace.create_us),
        etag=namespace.etag,
    )
    for name in ("max_version_age", "default_ttl", "undelete_window"):
        if value_us := getattr(retention, f"{name}_us"):
            getattr(message.retention, name).CopyFrom(duration(value_us))
    if settings.cache.max_age_us:
        message.cache.max_age.CopyFrom(duration(settings.cache.max_age_us))
    if settings.binding is not None:
        message.binding.resource_prefix = settings.binding.resource_prefix
        message.binding.lane = settings.binding.lane
        message.binding.item_aspects.update(settings.binding.item_aspects)
    if namespace.purge_us:
        message.purge_time.CopyFrom(timestamp(namespace.purge_us))
    return message


def _state(namespace: Namespace) -> admin_pb.Namespace.State.ValueType:
    if namespace.restoring:
        return admin_pb.Namespace.STATE_RESTORING
    return admin_pb.Namespace.STATE_DELETING if namespace.purge_us else admin_pb.Namespace.STATE_READY


def duration(duration_us: int) -> Duration:
    """A duration as its message."""
    return Duration(seconds=duration_us // 1_000_000, nanos=duration_us % 1_000_000 * 1000)


def _retention(message: admin_pb.Retention, deployment: Deployment, path: str) -> Retention:
    feed_window_us = deployment.feed_window_us
    if message.HasField("feed_window"):
        feed_window_us = read_duration(message.feed_window, f"{path}.feed_window")
    return Retention(
        max_versions=message.max_versions,
        max_version_age_us=read_duration(message.max_version_age, f"{path}.max_version_age"),
        default_ttl_us=read_duration(message.default_ttl, f"{path}.default_ttl"),
        undelete_window_us=read_duration(message.undelete_window, f"{path}.undelete_window"),
        feed_window_us=feed_window_us,
    )


def _quota(message: admin_pb.Namespace, default: Quota) -> Quota:
    """The quota asked for; the deployment's for a namespace that says nothing of any."""
    if not message.HasField("quota"):
        return default
    quota = message.quota
    return Quota(
        quota.max_bytes, quota.max_records, quota.max_reads_per_s, quota.max_writes_per_s, quota.max_concurrent
    )


def _pairs(entries: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(entries.items()))
