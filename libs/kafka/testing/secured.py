"""A broker that asks who one is: by SCRAM, by TLS, or by both, with access rules; and what certificates there are."""

from pathlib import Path
from typing import Final

from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import AclBinding, AclOperation, AclPermissionType
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType
from confluent_kafka.admin._scram import ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion

from libs.rpc.testing.certificates import Authority
from tools.dev.servers.kafka import Kafka
from tools.dev.servers.ports import free_port

USER: Final = "engine"
LOGIN: Final = "the right one"
_PATIENCE_S = 120.0
_PROTOCOLS = {"SCRAM": "SASL_PLAINTEXT", "TLS": "SSL", "EXPIRED": "SSL", "BOTH": "SASL_SSL"}
_ITERATIONS = 4_096


class SecuredKafka(Kafka):
    """Beside the plain listener, which is for the test itself: `scram`, `tls` (which asks for a client's certificate),
    `expired` (whose own certificate is) and `both` are "host:port". Certificates lie in `folder`."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.authority, self.foreign = Authority(), Authority("another authority")
        (broker,) = self.brokers
        ports = {name: f"127.0.0.1:{free_port()}" for name in _PROTOCOLS}
        self.scram, self.tls, self.expired, self.both = (ports[name] for name in _PROTOCOLS)
        extra = ",".join(f"{name}://{address}" for name, address in ports.items())
        plain = f"PLAINTEXT://{broker.address}"
        known = {"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT", **_PROTOCOLS}
        module = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        self._properties = {
            "listeners": f"{plain},CONTROLLER://127.0.0.1:{broker.controller_port},{extra}",
            "advertised.listeners": f"{plain},{extra}",
            "listener.security.protocol.map": ",".join(f"{name}:{protocol}" for name, protocol in known.items()),
            "sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "ssl.keystore.type": "PEM",
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": self.ca_file,
            "listener.name.tls.ssl.client.auth": "required",
            **{f"listener.name.{one}.scram-sha-512.sasl.jaas.config": module for one in ("scram", "both")},
            **{f"listener.name.{one}.ssl.keystore.location": self._keystore(one) for one in ("tls", "both", "expired")},
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
            "allow.everyone.if.no.acl.found": "true",
        }

    @property
    def ca_file(self) -> str:
        """Of the authority that signed the broker's certificates."""
        return self._written("ca.pem", self.authority.pem)

    @property
    def foreign_ca_file(self) -> str:
        """Of an authority that the broker has nothing to do with."""
        return self._written("foreign.pem", self.foreign.pem)

    def client(self, authority: Authority, *, expired: bool = False) -> tuple[str, str]:
        """The files of a client's certificate and key."""
        return authority.issue(USER, expired=expired).write(self.folder, f"client-{id(authority)}-{expired}")

    def add_user(self) -> None:
        """USER may log in with LOGIN."""
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, _ITERATIONS)
        given = UserScramCredentialUpsertion(USER, info, LOGIN.encode())
        admin = AdminClient({"bootstrap.servers": self.address})
        admin.alter_user_scram_credentials([given])[USER].result(_PATIENCE_S)

    def close_topic(self, name: str) -> None:
        """Nobody but the test may do anything with the topic from now on."""
        rule = AclBinding(
            ResourceType.TOPIC,
            name,
            ResourcePatternType.LITERAL,
            "User:nobody",
            "*",
            AclOperation.ALL,
            AclPermissionType.ALLOW,
        )
        admin = AdminClient({"bootstrap.servers": self.address})
        admin.create_acls([rule])[rule].result(_PATIENCE_S)

    def _keystore(self, listener: str) -> str:
        issued = self.authority.issue("broker", addresses=("127.0.0.1",), expired=listener == "expired")
        return self._written(f"{listener}-broker.pem", issued.key + issued.chain)

    def _written(self, name: str, content: bytes) -> str:
        path = self.folder / name
        path.write_bytes(content)
        return str(path)
