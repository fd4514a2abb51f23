"""How many replicas a namespace's statements ask, by its settings and by the data centre of this server."""

from typing import Final, NamedTuple

from libs.cassandra.session import EACH_QUORUM, LOCAL_ONE, LOCAL_QUORUM, LOCAL_SERIAL, QUORUM, SERIAL
from services.storage.cassandra.cursor import made_in
from services.storage.domain.errors import ConsistencyUnavailable
from services.storage.domain.namespace import Consistency, Namespace

_READS: Final = {
    Consistency.EVENTUAL: LOCAL_ONE,
    Consistency.LOCAL: LOCAL_QUORUM,
    Consistency.STRONG_LOCAL: LOCAL_SERIAL,
    Consistency.STRONG_GLOBAL: SERIAL,
}


class Scope(NamedTuple):
    """``read``: a record for a reader. ``serial``: where a conditional write is decided, and how what decides it is
    read in doubt. ``plain``: the feed, which no reader may find with gaps."""

    read: int
    serial: int
    plain: int


COMMIT: Final = LOCAL_QUORUM
"""Once decided, a write is answered when the data centre that asked has it: so that it is read there at once."""


STRONG: Final = (SERIAL, LOCAL_SERIAL)
"""Reads that see whatever was decided before them."""


def scope_of(namespace: Namespace, datacentre: str) -> Scope:
    """The scope of a namespace for a server in ``datacentre``. Conditional writes of two data centres exclude each
    other only when both are decided in the same one, or in all."""
    settings = namespace.settings
    read = read_level(namespace, datacentre)
    if namespace.stamped:
        return Scope(read, LOCAL_QUORUM, LOCAL_QUORUM)
    if settings.placement.home_datacentre == datacentre:
        return Scope(read, LOCAL_SERIAL, LOCAL_QUORUM)
    return Scope(read, SERIAL, QUORUM)


def read_level(namespace: Namespace, datacentre: str, consistency: Consistency | None = None, seen: bytes = b"") -> int:
    """How a reader in ``datacentre`` asks for a record; ``consistency`` (None: the namespace's) and ``seen`` are those
    of a ``Read``. A write is answered when a quorum of its data centre has it: a reader there who must see it asks a
    quorum too, and one elsewhere a quorum of every data centre."""
    level = _READS[consistency or namespace.settings.default_consistency]
    if namespace.stamped and level in STRONG:
        # Nothing is decided there, so nothing has to be asked that was not answered yet.
        level = LOCAL_QUORUM if level == LOCAL_SERIAL else EACH_QUORUM
    if level == EACH_QUORUM:
        return level
    if level in STRONG:
        return LOCAL_SERIAL if namespace.settings.placement.home_datacentre == datacentre else SERIAL
    if not seen:
        return level
    return LOCAL_QUORUM if made_in(seen, datacentre) else EACH_QUORUM


def at_home_elsewhere(namespace: Namespace, datacentre: str) -> bool:
    """Whether another data centre decides the writes, and keeps the feed, of a namespace."""
    return namespace.settings.placement.home_datacentre not in ("", datacentre)


def check_home(namespace: Namespace, datacentre: str) -> None:
    """Raises ConsistencyUnavailable when another data centre decides the writes, and keeps the feed, of a namespace."""
    home = namespace.settings.placement.home_datacentre
    if at_home_elsewhere(namespace, datacentre):
        raise ConsistencyUnavailable(
            f"the writes of the namespace {namespace.name!r} are decided in the data centre {home!r}, its home; ask a"
            f" server there (this one is in {datacentre!r})",
            metadata={"namespace": namespace.name, "home_datacentre": home},
        )
