"""From configuration messages to the options of the shared libraries: what a service's main would otherwise repeat."""

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from libs.auth.options import AuthOptions
from libs.clock.clock import Clock
from libs.config.mistakes import ConfigError, Mistake
from libs.embedded.settings import Settings
from libs.paging.paging import KEY_BYTES, PageTokens
from libs.rpc.options import ServerOptions, TlsOptions
from libs.telemetry.options import LogOptions, TelemetryOptions, TraceOptions
from wellspring.config.v1 import backend_pb2, server_pb2

_LEVELS: dict[int, Literal["DEBUG", "INFO", "WARNING", "ERROR"]] = {
    server_pb2.Log.LEVEL_DEBUG: "DEBUG",
    server_pb2.Log.LEVEL_INFO: "INFO",
    server_pb2.Log.LEVEL_WARNING: "WARNING",
    server_pb2.Log.LEVEL_ERROR: "ERROR",
}
_CALLS: dict[int, Literal["problems", "failures", "all"]] = {
    server_pb2.Log.CALLS_PROBLEMS: "problems",
    server_pb2.Log.CALLS_FAILURES: "failures",
    server_pb2.Log.CALLS_ALL: "all",
}


def seconds(duration: Duration) -> float:
    """The duration in seconds."""
    ns: int = duration.ToNanoseconds()
    return ns / 1e9


def server_options(service: str, config: server_pb2.Server) -> ServerOptions:
    """Options of the gRPC server of ``service``."""
    tls = None
    if config.HasField("tls"):
        tls = TlsOptions(config.tls.certificate_file, config.tls.key_file, config.tls.client_ca_file or None)
    return ServerOptions(
        service=service,
        listen=tuple(config.listen),
        engine="native" if config.engine == server_pb2.Server.ENGINE_NATIVE else "grpcio",
        workers=config.workers,
        tls=tls,
        max_message_bytes=config.max_message_bytes,
        max_concurrent_streams=config.max_concurrent_streams,
        max_in_flight=config.max_in_flight,
        max_open_streams=config.max_open_streams,
        overload_retry_s=seconds(config.overload_retry),
        default_deadline_s=seconds(config.default_deadline),
        default_stream_deadline_s=seconds(config.default_stream_deadline),
        max_deadline_s=seconds(config.max_deadline),
        keepalive_s=seconds(config.keepalive),
        keepalive_timeout_s=seconds(config.keepalive_timeout),
        drain_wait_s=seconds(config.drain_wait),
        drain_grace_s=seconds(config.drain_grace),
        health_interval_s=seconds(config.health_interval),
        health_timeout_s=seconds(config.health_timeout),
        reflection=config.reflection,
        channelz=config.channelz,
        ready_file=config.ready_file or None,
        die_with_parent=config.die_with_parent,
    )


def auth_options(config: server_pb2.Auth) -> AuthOptions:
    """Who may call what; several rules for one identity add up."""
    rules: dict[str, list[str]] = {}
    for rule in config.rules:
        rules.setdefault(rule.identity, []).extend(rule.methods)
    return AuthOptions(rules=rules, open_methods=tuple(config.open_methods))


def telemetry_options(config: server_pb2.Telemetry) -> TelemetryOptions:
    """Logs, metrics, traces."""
    return TelemetryOptions(
        metrics_listen=config.metrics_listen or None,
        log=LogOptions(
            level=_LEVELS[config.log.level], calls=_CALLS[config.log.calls], slow_call_s=seconds(config.log.slow_call)
        ),
        trace=TraceOptions(endpoint=config.trace.endpoint or None, ratio=config.trace.ratio),
    )


def embedded_settings(config: backend_pb2.Embedded) -> Settings:
    """How the embedded store is tuned; its directory is ``config.path``."""
    return Settings(
        cache_bytes=config.cache_bytes,
        write_buffer_bytes=config.write_buffer_bytes,
        log_bytes=config.log_bytes,
        max_pending_commits=config.max_pending_commits,
        reserve_bytes=config.reserve_bytes,
        background_jobs=config.background_jobs,
        open_files=config.open_files,
    )


def password(path: str, field: str) -> str:
    """The password in a file that the configuration names at ``field``. Raises ConfigError."""
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError):
        raise ConfigError([Mistake(path, 0, 0, field, "cannot be read", "a file with the password")]) from None


def refuse_half(config: Message, field: str, first: str, second: str, *, source: str = "") -> None:
    """Raises ConfigError when of two settings of the message at ``field`` one is there without the other."""
    if bool(getattr(config, first)) != bool(getattr(config, second)):
        missing = first if getattr(config, second) else second
        allowed = f"{first} and {second} go together"
        raise ConfigError([Mistake(source, 0, 0, f"{field}.{missing}", "is missing", allowed)])


def client_tls(config: server_pb2.ClientTls, field: str) -> ssl.SSLContext:
    """What the files of the configuration at ``field`` make for a client. Raises ConfigError, which names the file."""
    refuse_half(config, field, "certificate_file", "key_file")
    try:
        context = ssl.create_default_context(cafile=config.ca_file)
    except (OSError, ssl.SSLError):
        raise _wrong(f"{field}.ca_file", "cannot be used", "a PEM file with certificates") from None
    if config.certificate_file:
        try:
            # Without a password of its own the library would ask for it at the terminal.
            context.load_cert_chain(config.certificate_file, config.key_file, password=lambda: "")
        except (OSError, ssl.SSLError):
            files = f"{field}.certificate_file, {field}.key_file"
            wanted = "a PEM file with the certificate, and one with its key, which no password locks"
            raise _wrong(files, "cannot be used", wanted) from None
    return context


def _wrong(field: str, what: str, allowed: str) -> ConfigError:
    return ConfigError([Mistake("", 0, 0, field, what, allowed)])


def page_tokens(config: backend_pb2.PageTokens, clock: Clock, own_key: Callable[[], bytes]) -> PageTokens:
    """The page tokens of a service; ``own_key`` gives the 32 bytes that it keeps itself, when no file is configured.

    Raises ConfigError for a file that cannot be read or holds no keys.
    """
    keys = _read_keys(config.keys_file) if config.keys_file else [own_key()]
    return PageTokens(keys, clock, ttl_s=int(seconds(config.lifetime)))


def _read_keys(path: str) -> list[bytes]:
    allowed = f"lines of {2 * KEY_BYTES} hexadecimal digits are allowed, the newest key first"
    try:
        lines = Path(path).read_text(encoding="ascii").split()
        keys = [bytes.fromhex(line) for line in lines]
    except OSError:
        raise ConfigError([Mistake(path, 0, 0, "page_tokens.keys_file", "cannot be read", allowed)]) from None
    except ValueError:
        keys = []
    if not keys or any(len(key) != KEY_BYTES for key in keys):
        raise ConfigError([Mistake(path, 0, 0, "page_tokens.keys_file", "holds no keys of the right form", allowed)])
    return keys
