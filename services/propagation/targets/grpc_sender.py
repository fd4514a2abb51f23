"""Exchanges over gRPC: one unary method of one server, so that it has the same limits, breaker and deadlines as HTTP.

An OK answer has status 200 and the message's bytes as its body. Of others: UNAVAILABLE is UNREACHABLE,
DEADLINE_EXCEEDED is TIMEOUT, an answer beyond the bound is TOO_LARGE; the rest have the status of HTTP that
google/rpc/code.proto gives them.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import grpc

from services.propagation.targets.exchange import CONNECTION_LOST, TIMEOUT, TOO_LARGE, UNREACHABLE, Exchange
from services.propagation.targets.settings import TargetInvalid, TargetSettings
from services.propagation.targets.tasks import ExchangeTasks

MAX_ANSWER_BYTES = 64 << 20

_HTTP_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNIMPLEMENTED: 501,
}


class GrpcSender:
    """`method` is "/package.Service/Method". Never retries by itself: that is the caller's budget. Raises TargetInvalid
    when its TLS files cannot be read."""

    def __init__(self, settings: TargetSettings, method: str, on_end: Callable[[Sequence[Exchange]], None]) -> None:
        self._connect_timeout_s = settings.connect_timeout_s
        self._metadata = (("authorization", settings.authorization),) if settings.authorization else ()
        self._channel = _channel(settings)
        # Bytes in, bytes out: the caller builds and reads the messages.
        self._method = self._channel.unary_unary(method, request_serializer=bytes, response_deserializer=bytes)
        self._tasks = ExchangeTasks(self._call, on_end)

    def send(self, exchanges: Sequence[Exchange]) -> None:
        """Begins the calls."""
        for exchange in exchanges:
            self._tasks.begin(exchange)

    def abort(self, exchange: Exchange) -> None:
        """Cancels the call, without calling `on_end`."""
        self._tasks.abort(exchange)

    async def close(self) -> None:
        """Ends calls and channel."""
        await self._tasks.close()
        await self._channel.close(None)

    async def _call(self, exchange: Exchange) -> None:
        try:
            body = await self._method(exchange.data, timeout=exchange.timeout_s, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            _failed(exchange, error)
        else:
            exchange.status, exchange.body = 200, body


def _failed(exchange: Exchange, error: grpc.aio.AioRpcError) -> None:
    code = error.code()
    said = error.details() or ""
    exchange.detail = code.name
    if code is grpc.StatusCode.UNAVAILABLE:
        exchange.error = UNREACHABLE
    elif code is grpc.StatusCode.DEADLINE_EXCEEDED:
        exchange.error, exchange.detail = TIMEOUT, f"no answer in {exchange.timeout_s:g} s"
    elif code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in said:
        # grpcio's own text, of a message beyond grpc.max_receive_message_length.
        exchange.error, exchange.detail = TOO_LARGE, f"an answer of more than {MAX_ANSWER_BYTES:,} bytes"
    elif code is grpc.StatusCode.CANCELLED:
        exchange.error, exchange.detail = CONNECTION_LOST, "the call was cancelled by the server"
    else:
        exchange.status = _HTTP_STATUS.get(code, 500)


def _channel(settings: TargetSettings) -> grpc.aio.Channel:
    options: list[tuple[str, str | int]] = [
        ("grpc.enable_retries", 0),
        ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
        ("grpc.max_send_message_length", MAX_ANSWER_BYTES),
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.primary_user_agent", settings.user_agent),
    ]
    tls = settings.tls
    if tls is None:
        return grpc.aio.insecure_channel(settings.origin, options)
    if tls.server_name:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
    try:
        ca, key, certificate = (
            Path(file).read_bytes() if file else None for file in (tls.ca_file, tls.key_file, tls.certificate_file)
        )
    except OSError as error:
        raise TargetInvalid(f"target {settings.origin}: a TLS file cannot be read: {error.strerror}") from None
    credentials = grpc.ssl_channel_credentials(ca, key, certificate)
    return grpc.aio.secure_channel(settings.origin, credentials, options)
