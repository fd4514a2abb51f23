"""Realms as messages (the admin contract's and the configuration's, which have the same fields) and as policies."""

from collections.abc import Iterable
from typing import TypeVar

from google.protobuf.duration_pb2 import Duration

from libs.errors.errors import InvalidArgument
from services.session.answers import time
from services.session.domain.policy import (
    CEILINGS,
    Caller,
    Kind,
    Limit,
    Partition,
    Policy,
    Timeouts,
)
from services.session.domain.realms import Realm
from wellspring.config.v1 import session_pb2 as config_pb
from wellspring.session.v1 import session_admin_pb2 as pb

SETTABLE = frozenset(field.name for field in pb.Realm.DESCRIPTOR.fields) - {"name", "create_time", "etag"}
_UNSET = Policy()
_Choice = TypeVar("_Choice", Kind, Limit, Partition)


def policy_of(given: "pb.Realm | config_pb.Realm") -> Policy:
    """The policy that a message says; what it leaves out has its default. Bounds are checked by `policy.check`."""
    return Policy(
        timeouts=_timeouts(given),
        rotation_interval_us=_micros(given, "rotation_interval", _UNSET.rotation_interval_us),
        rotation_grace_us=_micros(given, "rotation_grace", _UNSET.rotation_grace_us),
        touch_interval_us=_micros(given, "touch_interval", _UNSET.touch_interval_us),
        max_sessions_per_subject=given.max_sessions_per_subject,
        limit=_choice(Limit, given.limit_policy, _UNSET.limit, "limit_policy"),
        max_data_bytes=given.max_data_bytes or _UNSET.max_data_bytes,
        max_data_keys=given.max_data_keys or _UNSET.max_data_keys,
        on_partition=_choice(Partition, given.on_partition, _UNSET.on_partition, "on_partition"),
        revocation_bound_us=_micros(given, "revocation_bound", _UNSET.revocation_bound_us),
        callers=tuple(Caller(c.identity, tuple(c.methods), tuple(c.data_keys)) for c in given.callers),
        justification=given.policy_justification,
        max_anonymous=given.max_anonymous,
        keep_hints=given.keep_hints,
        hints_lifetime_us=_micros(given, "hints_lifetime", _UNSET.hints_lifetime_us),
        readmission_window_us=_micros(given, "readmission_window", _UNSET.readmission_window_us),
        kind=_choice(Kind, given.kind, _UNSET.kind, "kind"),
        ttl_us=_micros(given, "ttl", _UNSET.ttl_us),
        max_values=given.max_values,
        max_total_bytes=given.max_total_bytes,
        proof_nonces=given.proof_nonces,
    )


def message_of(realm: Realm) -> pb.Realm:
    """A realm as the admin contract says it."""
    policy = realm.policy
    return pb.Realm(
        name=realm.name,
        kind=pb.Realm.Kind.ValueType(int(policy.kind)),
        timeouts=[
            pb.Timeouts(level=level, idle=duration(t.idle_us), absolute=duration(t.absolute_us))
            for level, t in enumerate(policy.timeouts, 1)
        ],
        rotation_interval=duration(policy.rotation_interval_us),
        rotation_grace=duration(policy.rotation_grace_us),
        touch_interval=duration(policy.touch_interval_us),
        max_sessions_per_subject=policy.max_sessions_per_subject,
        limit_policy=pb.Realm.LimitPolicy.ValueType(int(policy.limit)),
        max_data_bytes=policy.max_data_bytes,
        max_data_keys=policy.max_data_keys,
        on_partition=pb.Realm.PartitionPolicy.ValueType(int(policy.on_partition)),
        revocation_bound=duration(policy.revocation_bound_us),
        callers=[
            pb.Realm.Caller(identity=c.identity, methods=c.methods, data_keys=c.data_keys) for c in policy.callers
        ],
        policy_justification=policy.justification,
        max_anonymous=policy.max_anonymous,
        keep_hints=policy.keep_hints,
        hints_lifetime=duration(policy.hints_lifetime_us),
        readmission_window=duration(policy.readmission_window_us),
        ttl=duration(policy.ttl_us),
        max_values=policy.max_values,
        max_total_bytes=policy.max_total_bytes,
        proof_nonces=policy.proof_nonces,
        create_time=time(realm.created_us),
        etag=realm.etag,
    )


def duration(us: int) -> Duration:
    """A Duration of microseconds."""
    seconds, rest = divmod(us, 1_000_000)
    return Duration(seconds=seconds, nanos=rest * 1000)


def _micros(given: "pb.Realm | config_pb.Realm", field: str, default: int) -> int:
    if field not in (descriptor.name for descriptor, _ in given.ListFields()):
        return default
    value: Duration = getattr(given, field)
    return value.seconds * 1_000_000 + value.nanos // 1000


def _timeouts(given: "pb.Realm | config_pb.Realm") -> tuple[Timeouts, Timeouts, Timeouts]:
    levels = list(CEILINGS)
    seen = set()
    told: Iterable[pb.Timeouts | config_pb.RealmTimeouts] = given.timeouts
    for at, one in enumerate(told):
        if not 1 <= one.level <= 3 or one.level in seen:
            raise InvalidArgument.field(f"realm.timeouts[{at}].level", "1, 2 and 3 are allowed, each once")
        seen.add(one.level)
        levels[one.level - 1] = Timeouts(
            one.idle.seconds * 1_000_000 + one.idle.nanos // 1000,
            one.absolute.seconds * 1_000_000 + one.absolute.nanos // 1000,
        )
    return (levels[0], levels[1], levels[2])


def _choice(kind: type[_Choice], number: int, default: _Choice, field: str) -> _Choice:
    try:
        return kind(number or default)
    except ValueError:
        raise InvalidArgument.field(f"realm.{field}", f"the number {number} means nothing here") from None
