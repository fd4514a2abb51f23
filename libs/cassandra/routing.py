"""Which partition a statement is about, when it does not say so by itself."""

from typing import Any

from cassandra.query import BoundStatement


def routing_key(*columns: bytes) -> bytes:
    """The key of a partition made of several columns, as the cluster hashes it: each with its length before it and a
    zero byte behind it."""
    return b"".join(len(column).to_bytes(2, "big") + column + b"\0" for column in columns)


class Routed(BoundStatement):  # type: ignore[misc]
    """A statement over several partitions, to be sent to a replica of the one with a key."""

    def __init__(self, prepared: Any, key: bytes) -> None:
        super().__init__(prepared)
        self._key = key

    @property
    def routing_key(self) -> bytes:
        return self._key
