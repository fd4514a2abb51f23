"""What a connection to a cluster needs to know."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Options:
    """A cluster and how it is asked.

    `contact_points` are (host, port); `local_datacentre` is asked first, and alone unless a statement's consistency
    wants more. `replication` is replicas by data centre, for a keyspace that the migrations make. At most
    `max_in_flight` requests are under way; more wait. `hedge_share` of reads may be sent a second time to another
    replica when the first has not answered after `hedge_after_s` (0: never).
    """

    contact_points: tuple[tuple[str, int], ...]
    keyspace: str
    local_datacentre: str
    username: str = ""
    password: str = field(default="", repr=False)
    tls: ssl.SSLContext | None = None
    tls_server_name: str = ""
    request_timeout_s: float = 5.0
    replication: Mapping[str, int] = field(default_factory=dict)
    max_in_flight: int = 1024
    hedge_after_s: float = 0.1
    hedge_share: float = 0.05
    reconnect_s: tuple[float, float] = (0.5, 30.0)
