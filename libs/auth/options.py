"""What a service's configuration says about who may call it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class AuthOptions:
    """Who may call which method.

    ``rules`` maps a pattern of identities to patterns of methods. In both, ``*`` stands for any run of characters
    without a slash and ``**`` for any run at all. An identity is the URI of the caller's certificate
    (``spiffe://example.org/wiki/render``), ``cn:`` and its common name where it has no URI, or ``anonymous`` on a
    listener without client certificates. A method is written ``wellspring.storage.v1.Storage/Get``.

    With no rules every caller may call everything, which a server accepts on loopback only. With rules, what no rule
    allows is denied. ``open_methods`` are allowed to every caller that got through the handshake: the health check of a
    load balancer.
    """

    rules: Mapping[str, Sequence[str]] = field(default_factory=dict)
    open_methods: Sequence[str] = ("grpc.health.v1.Health/*",)
