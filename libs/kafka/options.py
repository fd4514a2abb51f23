"""What a client of a cluster needs to know."""

from dataclasses import dataclass, field

from libs.kafka.logs import log


@dataclass(frozen=True, slots=True)
class Options:
    """A cluster and how it is spoken to.

    `bootstrap` are "host:port"; with `username` the client proves who it is by SASL SCRAM-SHA-512, with `tls` it talks
    over TLS (`ca_file` empty: the system's authorities). `request_timeout_s` is for one answer of a broker,
    `delivery_timeout_s` for a message to be taken by a cluster that may be without a leader for a while.
    """

    bootstrap: tuple[str, ...]
    client_id: str = "wellspring"
    username: str = ""
    password: str = field(default="", repr=False)
    tls: bool = False
    ca_file: str = ""
    certificate_file: str = ""
    key_file: str = ""
    request_timeout_s: float = 10.0
    delivery_timeout_s: float = 30.0

    def settings(self) -> dict[str, object]:
        """The library's settings that consumers, producers and administration share."""
        secured = {(False, False): "plaintext", (True, False): "ssl", (False, True): "sasl_plaintext"}
        found: dict[str, object] = {
            "bootstrap.servers": ",".join(self.bootstrap),
            "client.id": self.client_id,
            "security.protocol": secured.get((self.tls, bool(self.username)), "sasl_ssl"),
            "socket.timeout.ms": int(self.request_timeout_s * 1000),
            "socket.keepalive.enable": True,
            "reconnect.backoff.ms": 250,
            "reconnect.backoff.max.ms": 2_000,
            # A topic made, grown or deleted is seen within this time.
            "topic.metadata.refresh.interval.ms": 10_000,
            "allow.auto.create.topics": False,
            "log.connection.close": False,
            # Said once for each kind of trouble by `hearing`; the library says it at each attempt.
            "log_level": 2,
            "logger": log,
        }
        if self.username:
            found |= {
                "sasl.mechanism": "SCRAM-SHA-512",
                "sasl.username": self.username,
                "sasl.password": self.password,
            }
        files = {
            "ssl.ca.location": self.ca_file,
            "ssl.certificate.location": self.certificate_file,
            "ssl.key.location": self.key_file,
        }
        return found | {key: path for key, path in files.items() if self.tls and path}
