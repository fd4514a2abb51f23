"""The SDK for asyncio::

async with wellspring_client.aio.connect(storage="127.0.0.1:8001") as client:
    notes = client.storage.namespace("notes")
    await notes.put("monday", b"water the plants")
    async for record in notes.scan():
        ...
"""

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self, TypeVar

from wellspring_client.calls import Caller
from wellspring_client.channels import Channels, Tls
from wellspring_client.propagation import Propagation
from wellspring_client.session import Sessions
from wellspring_client.storage_admin import Storage

__all__ = ["Client", "connect"]

Addresses = str | Sequence[str]
_Service = TypeVar("_Service")


def connect(
    address: Addresses | None = None,
    *,
    storage: Addresses | None = None,
    session: Addresses | None = None,
    propagation: Addresses | None = None,
    tls: Tls | None = None,
    timeout: float = 10.0,
    connections: int = 1,
    headers: Callable[[], Mapping[str, str]] | None = None,
) -> "Client":
    """A client; nothing is called before the first method is. Use it on one event loop, and as a context manager.

    ``storage``, ``session``, ``propagation``: where each service listens, "host:port" or "unix:/path", several as a
    list; ``address`` for those not named. ``timeout``: seconds of a call, all its attempts together, unless the call
    says otherwise. ``connections`` to each service. ``headers``: called for each call, gives metadata to send, such as
    "traceparent".

    Raises ValueError when no address is given or one is malformed, OSError when a TLS file cannot be read.
    """
    return Client(
        {"storage": storage or address, "session": session or address, "propagation": propagation or address},
        tls=tls,
        timeout=timeout,
        connections=connections,
        headers=headers,
    )


class Client:
    """The services behind one set of addresses. Made by :func:`connect`."""

    def __init__(
        self,
        addresses: Mapping[str, Addresses | None],
        *,
        tls: Tls | None,
        timeout: float,
        connections: int,
        headers: Callable[[], Mapping[str, str]] | None,
    ) -> None:
        if not any(addresses.values()):
            raise ValueError('no address is given; connect("host:port") or connect(storage="host:port", …)')
        if not timeout > 0:
            raise ValueError(f"timeout is a number of seconds above 0: got {timeout}")
        self._callers = {
            service: Caller(Channels(where, tls=tls, connections=connections), timeout, headers or dict)
            for service, where in addresses.items()
            if where
        }
        self._storage = Storage(self._callers["storage"]) if "storage" in self._callers else None
        self._session = Sessions(self._callers["session"]) if "session" in self._callers else None
        self._propagation = Propagation(self._callers["propagation"]) if "propagation" in self._callers else None

    @property
    def storage(self) -> Storage:
        """The storage service. Raises ValueError when its address was not given."""
        return _named(self._storage, "storage")

    @property
    def session(self) -> Sessions:
        """The session service. Raises ValueError when its address was not given."""
        return _named(self._session, "session")

    @property
    def propagation(self) -> Propagation:
        """The propagation service. Raises ValueError when its address was not given."""
        return _named(self._propagation, "propagation")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections; calls under way are cancelled. Harmless when called twice."""
        for caller in self._callers.values():
            await caller.close()


def _named(service: _Service | None, name: str) -> _Service:
    if service is None:
        raise ValueError(f'no address of {name} was given: connect({name}="host:port")')
    return service
