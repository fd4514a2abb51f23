"""Where data is: the backend that a configuration names, or the one behind its cache."""

from typing import TypeVar

from libs.config.mistakes import ConfigError, Mistake
from wellspring.config.v1 import session_pb2, storage_pb2

_Backend = TypeVar("_Backend", session_pb2.SessionBackend, storage_pb2.StorageBackend)


def origin_of(backend: _Backend) -> _Backend:
    """The backend that keeps the data. Raises ConfigError for a cache of a cache."""
    if backend.WhichOneof("kind") != "cached":
        return backend
    if backend.cached.origin.WhichOneof("kind") == "cached":
        where, allowed = "backend.cached.origin", "embedded and cassandra are allowed"
        raise ConfigError([Mistake("", 0, 0, where, "is cached itself", allowed)])
    return backend.cached.origin
