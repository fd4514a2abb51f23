"""The HTTP/2 engines under the pipeline. Both take the same handlers; configuration chooses (docs/decisions/0020)."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Protocol

import grpc
from grpc import aio

from libs.rpc.listen import Address
from libs.rpc.options import ServerOptions, StartError

_NATIVE_POLL_S = 0.02
_NATIVE_IO_THREADS = 1
"""One carries several times what the event loop behind it does; with a second one each answers less at a time."""
_NATIVE_FLUSH_S = 0.2
"""After the last answer was handed to the native engine's threads, until they have surely written it."""


class Engine(Protocol):
    """What carries calls. Used in this order: listeners and services, ``start``, ``stop``; each once."""

    def listen(self, address: Address, credentials: grpc.ServerCredentials | None) -> int:
        """Adds a listener and returns its port (0 for a Unix socket). Raises StartError when that cannot be."""

    def add_service(self, name: str, handlers: Mapping[str, Any], *, apart: bool = False) -> None:
        """Adds the handlers of the service with the full name ``name``, by method name. ``apart``: its calls do not
        stand behind those of others that have come and are not taken yet."""

    async def start(self) -> None:
        """Takes calls from now on."""

    async def stop(self, grace_s: float) -> None:
        """Takes no new calls; returns when those under way have ended, or were cancelled after ``grace_s``."""


class Calls(Protocol):
    """What the pipeline knows of its calls, for an engine that cannot drain by itself."""

    def under_way(self) -> int:
        """How many calls were admitted and have not ended."""

    def refuse_new(self) -> None:
        """From now on new calls get UNAVAILABLE."""


def make_engine(options: ServerOptions, addresses: list[Address], calls: Calls, *, share_ports: bool) -> Engine:
    """The engine that ``options`` choose. ``share_ports`` lets other processes listen on the same ports.

    Raises StartError when the engine cannot do what the options ask of it.
    """
    settings = [
        ("grpc.so_reuseport", int(share_ports)),
        ("grpc.max_receive_message_length", options.max_message_bytes),
        ("grpc.max_send_message_length", options.max_message_bytes),
        ("grpc.max_concurrent_streams", options.max_concurrent_streams),
        ("grpc.keepalive_time_ms", int(options.keepalive_s * 1000)),
        ("grpc.keepalive_timeout_ms", int(options.keepalive_timeout_s * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
    ]
    if options.engine == "native":
        check_native(options, addresses)
        # Imported here: a process that does not use it need not carry it.
        import pygrpc_native.aio

        return _Native(pygrpc_native.aio.Server(options=settings, io_threads=_NATIVE_IO_THREADS), calls)
    settings += [
        # Clients may ping as often as our own keepalive does, and half as often again.
        ("grpc.http2.min_recv_ping_interval_without_data_ms", int(options.keepalive_s * 1000 / 1.5)),
        ("grpc.enable_channelz", int(options.channelz)),
    ]
    return _Grpcio(aio.server(options=settings))


def check_native(options: ServerOptions, addresses: list[Address]) -> None:
    """Raises StartError for what the native engine cannot do: TLS, several listeners, callers from other machines."""
    cure = "; use server.engine grpcio"
    if options.tls is not None:
        raise StartError("server.engine native has no TLS: put a TLS proxy on this machine before it" + cure)
    if len(addresses) != 1:
        raise StartError(f"server.engine native listens on one address, server.listen has {len(addresses)}" + cure)
    if not addresses[0].loopback:
        raise StartError(f"server.engine native listens on loopback only, not on {addresses[0]}" + cure)


class _Served:
    """An engine with the API of ``grpc.aio.Server``, which both have."""

    def __init__(self, server: Any) -> None:
        self._server = server

    def listen(self, address: Address, credentials: grpc.ServerCredentials | None) -> int:
        try:
            if credentials is None:
                port = self._server.add_insecure_port(str(address))
            else:
                port = self._server.add_secure_port(str(address), credentials)
        except RuntimeError:
            # The engine's own text goes to its log; the address was free a moment ago (libs/rpc/listen.py).
            raise StartError(f"cannot listen on {address}: it was taken in this moment") from None
        return 0 if address.path else int(port)

    def add_service(self, name: str, handlers: Mapping[str, Any], *, apart: bool = False) -> None:
        self._server.add_registered_method_handlers(name, dict(handlers))

    async def start(self) -> None:
        await self._server.start()

    async def stop(self, grace_s: float) -> None:
        await self._server.stop(grace_s)


class _Grpcio(_Served):
    """grpcio. With each call that comes it goes through all methods that are registered, half a microsecond for each
    (``_server_main_loop`` of its aio server waits for the next call of any): registered are only those apart."""

    def __init__(self, server: Any) -> None:
        super().__init__(server)
        self._methods = _Methods()
        server.add_generic_rpc_handlers((self._methods,))

    def add_service(self, name: str, handlers: Mapping[str, Any], *, apart: bool = False) -> None:
        if apart:
            super().add_service(name, handlers)
        else:
            self._methods.handlers |= {f"/{name}/{method}": handler for method, handler in handlers.items()}


class _Methods(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # it takes none when it runs
    """Handlers by what a call asks for."""

    def __init__(self) -> None:
        self.handlers: dict[str, Any] = {}

    def service(self, handler_call_details: Any) -> Any:
        """None: there is no such method."""
        return self.handlers.get(handler_call_details.method)


class _Native(_Served):
    """The native engine. Its own stop loses answers that are still on their way out: calls are drained before it."""

    def __init__(self, server: Any, calls: Calls) -> None:
        super().__init__(server)
        self._calls = calls

    async def stop(self, grace_s: float) -> None:
        self._calls.refuse_new()
        ends = time.monotonic() + grace_s
        while self._calls.under_way() and time.monotonic() < ends:  # noqa: ASYNC110  (a count; once in a process's life)
            await asyncio.sleep(_NATIVE_POLL_S)
        if grace_s > 0:
            await asyncio.sleep(_NATIVE_FLUSH_S)
        await self._server.stop(0)
