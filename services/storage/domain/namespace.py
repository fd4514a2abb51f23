"""A namespace: one team's or feature's data under one policy. Its settings, what is allowed in them, who may call."""

import dataclasses
import enum
import re
from typing import Final

from libs.errors.errors import InvalidArgument
from services.storage.domain.errors import AccessDenied, NamespaceDeleted, NamespaceNotFound, NamespaceRestoring
from services.storage.domain.model import Mode

SECOND_US: Final = 1_000_000
DAY_US: Final = 86_400 * SECOND_US

DEFAULT_DRIFT_US: Final = 60 * SECOND_US
MAX_DRIFT_US: Final = 3600 * SECOND_US
DEFAULT_FEED_WINDOW_US: Final = 7 * DAY_US
MIN_FEED_WINDOW_US: Final = 60 * SECOND_US
MAX_WINDOW_US: Final = 10 * 365 * DAY_US
DEFAULT_GRACE_US: Final = 7 * DAY_US
MAX_GRACE_US: Final = 90 * DAY_US

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_MAX_DESCRIPTION: Final = 1024
_MAX_LABELS: Final = 64
_MAX_CALLERS: Final = 1000
_MAX_ASPECTS: Final = 1000
_MAX_PREFIX: Final = 512
_PRINTED: Final = 80


class Consistency(enum.Enum):
    """How many replicas must agree."""

    EVENTUAL = "eventual"
    LOCAL = "local"
    STRONG_LOCAL = "strong_local"
    STRONG_GLOBAL = "strong_global"


@dataclasses.dataclass(frozen=True, slots=True)
class Binding:
    """The namespace's changes are propagation's: resource = ``resource_prefix`` + record. ``item_aspects`` by item
    key."""

    resource_prefix: str
    lane: str = ""
    item_aspects: tuple[tuple[str, str], ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Retention:
    """What is kept of the past; ages in microseconds, 0 for none."""

    max_versions: int = 0
    max_version_age_us: int = 0
    default_ttl_us: int = 0
    undelete_window_us: int = 0
    feed_window_us: int = DEFAULT_FEED_WINDOW_US

    @property
    def keeps_versions(self) -> bool:
        """Whether overwritten values are kept."""
        return bool(self.max_versions or self.max_version_age_us)

    @property
    def keeps_past(self) -> bool:
        """Whether anything that goes is kept for a time."""
        return bool(self.max_versions or self.max_version_age_us or self.undelete_window_us)


@dataclasses.dataclass(frozen=True, slots=True)
class Quota:
    """Bounds of a namespace; 0 is none."""

    max_bytes: int = 0
    max_records: int = 0
    max_reads_per_s: int = 0
    max_writes_per_s: int = 0
    max_concurrent: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Placement:
    """Data centres that hold the data (all when empty), and the one where conditional writes are decided."""

    datacentres: tuple[str, ...] = ()
    home_datacentre: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Caller:
    """An identity, or a pattern with * as its last character, and what it may do."""

    identity: str
    read: bool
    write: bool

    def matches(self, identity: str) -> bool:
        """Whether ``identity`` is meant."""
        if self.identity.endswith("*"):
            return identity.startswith(self.identity[:-1])
        return identity == self.identity


@dataclasses.dataclass(frozen=True, slots=True)
class Cache:
    """Whether reads may go through a cache, and how old what it answers may be."""

    enabled: bool = False
    max_age_us: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """What the caller chose."""

    name: str
    mode: Mode
    default_consistency: Consistency = Consistency.LOCAL
    placement: Placement = Placement()
    retention: Retention = Retention()
    quota: Quota = Quota()
    callers: tuple[Caller, ...] = ()
    binding: Binding | None = None
    cache: Cache = Cache()
    max_clock_drift_us: int = DEFAULT_DRIFT_US
    description: str = ""
    labels: tuple[tuple[str, str], ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Namespace:
    """A namespace as it is. ``number`` names it inside the store and is never used again; ``purge_us`` is 0 while it is
    ready, else when its data goes. ``revision`` counts changes of the settings and of the state. ``restoring``: its
    data is still on the way from a snapshot, and nobody may read or write. ``stamped``: on Cassandra, its records are
    cells with timestamps of ours (``cassandra/lww``)."""

    settings: Settings
    number: int
    create_us: int
    purge_us: int = 0
    revision: int = 1
    restoring: bool = False
    stamped: bool = False

    @property
    def name(self) -> str:
        """Its name."""
        return self.settings.name

    @property
    def etag(self) -> str:
        """Changes with each change of the namespace."""
        return f"{self.number:x}-{self.revision:x}"

    def check_ready(self) -> None:
        """Raises NamespaceDeleted in the grace period before it is gone, NamespaceRestoring before all of it is
        there."""
        if self.restoring:
            raise NamespaceRestoring(
                f"the namespace {self.name!r} is being restored from a snapshot; ListOperations tells how far it is",
                metadata={"namespace": self.name},
            )
        if self.purge_us:
            raise NamespaceDeleted(
                f"the namespace {self.name!r} is deleted and its data goes soon; UndeleteNamespace takes that back",
                metadata={"namespace": self.name},
            )

    def check_access(self, identity: str, *, write: bool) -> None:
        """Raises NamespaceNotFound when ``identity`` may not see the namespace, AccessDenied when it may only do the
        other of reading and writing. Without callers everybody may do both."""
        callers = self.settings.callers
        if not callers:
            return
        mine = [caller for caller in callers if caller.matches(identity)]
        if any(caller.write if write else caller.read for caller in mine):
            return
        if any(caller.read or caller.write for caller in mine):
            verb = "write" if write else "read"
            raise AccessDenied(f"{identity} may not {verb} in the namespace {self.name!r}; its callers say so")
        raise NamespaceNotFound.named(self.name)


def check_name(name: str, path: str) -> None:
    """Raises InvalidArgument when ``name`` cannot be a namespace's."""
    if _NAME.fullmatch(name) is None:
        shown = repr(name[:_PRINTED])
        raise InvalidArgument.field(
            path, f"is {shown}; 1 to 64 of a-z, 0-9, - and _ are allowed, beginning with a letter"
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Deployment:
    """What the deployment gives its namespaces and allows them.

    A token is remembered for at least twice ``max_drift_us``, so that one that was forgotten is always refused for its
    age. ``drift_us``, ``feed_window_us``, ``quota`` and ``grace_us`` (of a delete) are the defaults; ``ttl_jitter`` is
    the share of a default TTL over which expiries are spread.
    """

    datacentres: tuple[str, ...] = ("local",)
    max_drift_us: int = MAX_DRIFT_US
    max_namespaces: int = 10_000
    drift_us: int = DEFAULT_DRIFT_US
    feed_window_us: int = DEFAULT_FEED_WINDOW_US
    quota: Quota = Quota()
    grace_us: int = DEFAULT_GRACE_US
    ttl_jitter: float = 0.0


def check_settings(settings: Settings, deployment: Deployment, path: str = "namespace") -> None:
    """Raises InvalidArgument, naming all fields that are wrong."""
    check_name(settings.name, f"{path}.name")
    wrong = [
        *_wrong_retention(settings.retention),
        *_wrong_quota(settings.quota),
        *_wrong_placement(settings, deployment.datacentres),
        *_wrong_callers(settings.callers),
        *_wrong_binding(settings.binding),
        *_wrong_notes(settings),
    ]
    if not 1 <= settings.max_clock_drift_us <= deployment.max_drift_us:
        most = f"{deployment.max_drift_us / SECOND_US:g} s"
        wrong.append(("max_clock_drift", f"above 0 s and at most {most}, half of the token window, are allowed"))
    if not 0 <= settings.cache.max_age_us <= MAX_WINDOW_US:
        wrong.append(("cache.max_age", "0 s to 10 years are allowed"))
    if wrong:
        violations = [(f"{path}.{field}", what) for field, what in wrong]
        raise InvalidArgument("; ".join(f"{field}: {what}" for field, what in violations), violations=violations)


_Wrong = list[tuple[str, str]]


def _wrong_retention(retention: Retention) -> _Wrong:
    wrong = []
    if not 0 <= retention.max_versions <= 1000:
        wrong.append(("retention.max_versions", f"is {retention.max_versions}; 0 to 1000 are allowed"))
    for field in ("max_version_age", "default_ttl", "undelete_window"):
        if not 0 <= getattr(retention, field + "_us") <= MAX_WINDOW_US:
            wrong.append((f"retention.{field}", "0 s to 10 years are allowed"))
    if not MIN_FEED_WINDOW_US <= retention.feed_window_us <= MAX_WINDOW_US:
        wrong.append(("retention.feed_window", "1 minute to 10 years are allowed"))
    return wrong


def _wrong_quota(quota: Quota) -> _Wrong:
    fields = [field.name for field in dataclasses.fields(quota)]
    return [(f"quota.{field}", "is negative; 0 is no limit") for field in fields if getattr(quota, field) < 0]


def _wrong_placement(settings: Settings, datacentres: tuple[str, ...]) -> _Wrong:
    placement, known = settings.placement, ", ".join(datacentres)
    wrong = [
        (
            f"placement.datacentres[{index}]",
            f"{name[:_PRINTED]!r} is no data centre of this deployment; it has: {known}",
        )
        for index, name in enumerate(placement.datacentres)
        if name not in datacentres
    ]
    home = placement.home_datacentre
    if home and settings.mode is not Mode.CAS:
        wrong.append(("placement.home_datacentre", "only CAS namespaces have one"))
    elif home and home not in (placement.datacentres or datacentres):
        wrong.append(("placement.home_datacentre", f"{home[:_PRINTED]!r} holds none of the data"))
    return wrong


def _wrong_callers(callers: tuple[Caller, ...]) -> _Wrong:
    if len(callers) > _MAX_CALLERS:
        return [("callers", f"has {len(callers)} entries; at most {_MAX_CALLERS} are allowed")]
    wrong = []
    for index, caller in enumerate(callers):
        if not caller.identity or "*" in caller.identity[:-1] or len(caller.identity) > 512:
            wrong.append(
                (f"callers[{index}].identity", "1 to 512 characters are allowed, with * as the last one at most")
            )
        elif not (caller.read or caller.write):
            wrong.append((f"callers[{index}]", "lets its identity neither read nor write"))
    return wrong


def _wrong_binding(binding: Binding | None) -> _Wrong:
    if binding is None:
        return []
    wrong = []
    if not 1 <= len(binding.resource_prefix.encode()) <= _MAX_PREFIX or _unprintable(binding.resource_prefix):
        wrong.append(("binding.resource_prefix", f"1 to {_MAX_PREFIX} bytes without control characters are allowed"))
    if len(binding.lane) > 64 or _unprintable(binding.lane):
        wrong.append(("binding.lane", "at most 64 characters, none of them a control character, are allowed"))
    if len(binding.item_aspects) > _MAX_ASPECTS:
        wrong.append(("binding.item_aspects", f"at most {_MAX_ASPECTS} entries are allowed"))
    for key, aspect in binding.item_aspects[:_MAX_ASPECTS]:
        if not 1 <= len(aspect) <= 64 or _unprintable(aspect):
            shown = f"binding.item_aspects[{key[:_PRINTED]!r}]"
            wrong.append((shown, "1 to 64 characters, none of them a control character, are allowed"))
    return wrong


def _wrong_notes(settings: Settings) -> _Wrong:
    wrong = []
    if len(settings.description.encode()) > _MAX_DESCRIPTION:
        wrong.append(("description", f"at most {_MAX_DESCRIPTION} bytes are allowed"))
    if len(settings.labels) > _MAX_LABELS:
        wrong.append(("labels", f"at most {_MAX_LABELS} entries are allowed"))
    for key, value in settings.labels[:_MAX_LABELS]:
        if not 1 <= len(key) <= 63 or len(value) > 256:
            wrong.append((f"labels[{key[:_PRINTED]!r}]", "a key of 1 to 63 and a value of at most 256 characters"))
    return wrong


def _unprintable(text: str) -> bool:
    return any(ord(character) < 32 or 127 <= ord(character) < 160 for character in text)


def check_bound_record(record: bytes, path: str) -> None:
    """Raises InvalidArgument when ``record`` cannot be the name of a resource: not UTF-8, or with control
    characters."""
    try:
        text = record.decode("utf-8")
    except UnicodeDecodeError:
        text = "\0"
    if not text.isprintable() and _unprintable(text):
        raise InvalidArgument.field(
            path, "the namespace is bound to propagation: its records are UTF-8 without control characters"
        )
