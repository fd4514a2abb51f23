"""Connections: channels to a service, with retries, keepalive and TLS as every call needs them."""

import dataclasses
import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import grpc

MAX_MESSAGE_BYTES = 64 << 20

_SERVICE_CONFIG = json.dumps(
    {
        # gRFC A6. Every mutation carries a token, so that a retry is the same write; other codes are answers.
        # CANCELLED is what a grpcio server makes of a call that reaches it in the moment in which it stops.
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 5,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "2s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
                },
            }
        ],
        # A server that fails more than it answers is not asked twice for each call.
        "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.5},
        "loadBalancingConfig": [{"round_robin": {}}],
    }
)


@dataclasses.dataclass(frozen=True, slots=True)
class Tls:
    """PEM files. ``ca_file`` signs the servers' certificates (None: the system's authorities); ``certificate_file`` and
    ``key_file`` are the identity of this process, both or none; ``server_name`` is the name that the certificate must
    carry, when it is not the address.
    """

    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        if bool(self.certificate_file) != bool(self.key_file):
            raise ValueError("Tls: certificate_file and key_file belong together; give both or none")

    def credentials(self) -> grpc.ChannelCredentials:
        """For a channel. Raises OSError when a file cannot be read."""

        def content(path: str | None) -> bytes | None:
            return Path(path).read_bytes() if path else None

        return grpc.ssl_channel_credentials(
            content(self.ca_file), content(self.key_file), content(self.certificate_file)
        )


def target_of(addresses: str | Sequence[str]) -> str:
    """gRPC's name for one address or several: "host:port", "unix:/path", or a gRPC target ("dns:///…") as it is.

    Several addresses are "ip:port" each, all IPv4 or all IPv6. Raises ValueError otherwise.
    """
    if isinstance(addresses, str):
        addresses = [addresses]
    if not addresses or not all(addresses):
        raise ValueError('an address is empty; "host:port" or "unix:/path" is expected')
    if len(addresses) == 1:
        address = addresses[0]
        if ":" not in address:
            raise ValueError(f'the address {address!r} has no port; "host:port" or "unix:/path" is expected')
        return address
    kinds = {"ipv6" if address.startswith("[") else "ipv4" for address in addresses}
    if len(kinds) > 1 or any(address.startswith("unix:") for address in addresses):
        raise ValueError("several addresses of one service are ip:port each, of one family")
    return f"{kinds.pop()}:{','.join(addresses)}"


class Channels:
    """``connections`` channels to one target, used in turn. Belongs to one event loop."""

    def __init__(self, addresses: str | Sequence[str], *, tls: Tls | None, connections: int = 1) -> None:
        if connections < 1:
            raise ValueError("connections is at least 1")
        self.target = target_of(addresses)
        options: list[tuple[str, str | int]] = [
            ("grpc.service_config", _SERVICE_CONFIG),
            ("grpc.enable_retries", 1),
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
            ("grpc.keepalive_time_ms", 60_000),
            ("grpc.keepalive_timeout_ms", 20_000),
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.max_reconnect_backoff_ms", 5_000),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        if tls is not None and tls.server_name:
            options.append(("grpc.ssl_target_name_override", tls.server_name))
        credentials = tls.credentials() if tls is not None else None
        self._channels = [
            grpc.aio.secure_channel(self.target, credentials, options)
            if credentials is not None
            else grpc.aio.insecure_channel(self.target, options)
            for _ in range(connections)
        ]
        self._turn = itertools.cycle(self._channels)

    def next(self) -> grpc.aio.Channel:
        """The channel whose turn it is."""
        return next(self._turn)

    async def close(self) -> None:
        """Close all; calls under way are cancelled."""
        for channel in self._channels:
            await channel.close(None)
