"""Which partition a statement is about, when it does not say so by itself, and where partitions lie."""

from collections.abc import Hashable
from typing import Any, Final

from cassandra.query import BoundStatement

_RANGES: Final = 1 << 14
"""Ranges of the ring whose replicas are kept by name: more than all but the largest clusters have."""


def routing_key(*columns: bytes) -> bytes:
    """The key of a partition made of several columns, as the cluster hashes it: each with its length before it and a
    zero byte behind it."""
    return b"".join([len(column).to_bytes(2, "big") + column + b"\0" for column in columns])


class Routed(BoundStatement):  # type: ignore[misc]
    """A statement over several partitions, to be sent to a replica of the one with a key."""

    def __init__(self, prepared: Any, key: bytes) -> None:
        super().__init__(prepared)
        self._key = key

    @property
    def routing_key(self) -> bytes:
        return self._key


class Replicas:
    """Where partitions of one keyspace lie in one data centre."""

    def __init__(self, metadata: Any, keyspace: str, datacentre: str) -> None:
        """``metadata``: the driver's of the cluster."""
        self._metadata = metadata
        self._keyspace = keyspace
        self._datacentre = datacentre
        self._names: dict[int, tuple[Any, Hashable]] = {}

    def of(self, key: bytes) -> Hashable:
        """Names the replicas of the partition with a key: those of one name are asked for together without a detour,
        whichever of them is asked. None while they are not known."""
        hosts = self._metadata.get_replicas(self._keyspace, key)
        if not hosts:
            return None
        known, name = self._names.get(id(hosts), (None, None))
        if known is not hosts:
            # The driver has one list for each range of the ring, as long as that stays as it is.
            if len(self._names) >= _RANGES:
                self._names.clear()
            own = (host for host in hosts if host.datacenter == self._datacentre)
            name = frozenset((host.endpoint.address, host.endpoint.port) for host in own)
            self._names[id(hosts)] = hosts, name
        return name
