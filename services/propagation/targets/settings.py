"""What is known of a target before the first request: its limits, who calls, its TLS. Made from the configuration."""

import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from wellspring.config.v1 import propagation_pb2, server_pb2

MAX_CONCURRENCY = 64
CONNECT_TIMEOUT_S = 2.0
USER_AGENT = "wellspring"
_HEADER_VALUE = re.compile(r"[\x20-\x7e]*")


class TargetInvalid(ValueError):
    """The configuration of a target cannot be used; the text says which, what is wrong and what is allowed."""


@dataclass(frozen=True, slots=True)
class TargetSettings:
    """`origin` as `origin_of` gives it, or the address of a gRPC server; `authorization` is the header's whole value.

    The defaults are those of config/propagation.proto, Target.
    """

    origin: str
    max_concurrency: int = MAX_CONCURRENCY
    pipeline: int = 1
    connect_timeout_s: float = CONNECT_TIMEOUT_S
    user_agent: str = USER_AGENT
    authorization: str = ""
    tls: server_pb2.ClientTls | None = None

    def ssl_context(self) -> ssl.SSLContext:
        """For https: the configured authority and client certificate, else the system's authorities.

        Raises TargetInvalid when a file cannot be used.
        """
        tls = self.tls
        try:
            context = ssl.create_default_context(cafile=tls.ca_file if tls is not None else None)
            if tls is not None and tls.certificate_file:
                context.load_cert_chain(tls.certificate_file, tls.key_file or None)
        except (OSError, ssl.SSLError) as error:
            problem = getattr(error, "strerror", None) or type(error).__name__
            raise TargetInvalid(
                f"target {self.origin}: its TLS files cannot be used: {problem}; PEM is expected"
            ) from None
        return context


def origin_of(url: str) -> str:
    """scheme://host:port of an http or https URL, in lower case, with its port. Raises TargetInvalid for others."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise TargetInvalid(f"{url!r} is no address; http://host[:port] or https://host[:port] is allowed") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise TargetInvalid(f"{url!r} is no address; http://host[:port] or https://host[:port] is allowed")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}:{port or (443 if parts.scheme == 'https' else 80)}"


def settings_of(targets: Sequence[propagation_pb2.Target]) -> dict[str, TargetSettings]:
    """The configured targets by origin. Reads their authorization files. Raises TargetInvalid."""
    found: dict[str, TargetSettings] = {}
    for target in targets:
        origin = origin_of(target.origin) if "://" in target.origin else target.origin
        if origin in found:
            raise TargetInvalid(f"target {target.origin} is configured twice; each origin once")
        connect_ns: int = target.connect_timeout.ToNanoseconds()
        found[origin] = TargetSettings(
            origin=origin,
            max_concurrency=target.max_concurrency or MAX_CONCURRENCY,
            pipeline=target.pipeline or 1,
            connect_timeout_s=connect_ns / 1e9 or CONNECT_TIMEOUT_S,
            user_agent=_header(origin, "user_agent", target.user_agent or USER_AGENT),
            authorization=_authorization(origin, target.authorization_file),
            tls=target.tls if target.HasField("tls") else None,
        )
    return found


def _authorization(origin: str, file: str) -> str:
    if not file:
        return ""
    try:
        text = Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        problem = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise TargetInvalid(f"target {origin}: authorization_file {file} cannot be read: {problem}") from None
    if not text:
        raise TargetInvalid(f"target {origin}: authorization_file {file} is empty; it holds the header's value")
    return _header(origin, "the value in authorization_file", text)


def _header(origin: str, what: str, value: str) -> str:
    if not _HEADER_VALUE.fullmatch(value):
        raise TargetInvalid(
            f"target {origin}: {what} has characters that no header may hold; printable ASCII is allowed"
        )
    return value
