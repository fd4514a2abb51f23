"""The storage server's process: configuration in, server out.

python -m services.storage.main --config storage.yaml
"""

import dataclasses
import os
import sys
from pathlib import Path

from google.protobuf.duration_pb2 import Duration

from libs.clock.clock import SystemClock
from libs.config import wiring
from libs.config.command import from_command_line
from libs.config.mistakes import ConfigError
from libs.config.origins import origin_of
from libs.errors.errors import WellspringError
from libs.rpc.options import StartError
from libs.rpc.run import run
from libs.rpc.server import Server
from services.storage.administration import Backups
from services.storage.backends import mirror_openers, open_backend
from services.storage.domain.namespace import Deployment, Quota
from services.storage.service import Options, add_storage
from services.storage.store.local import LocalOptions
from services.storage.tokens import RESUME_LIFETIME_S, Tokens
from wellspring.config.v1 import backend_pb2, storage_pb2


def main() -> int:
    """Serves until a signal says stop; returns the exit status."""
    config = from_command_line("storage", storage_pb2.StorageConfig)
    clock = SystemClock()
    defaults = config.namespace_defaults
    local = LocalOptions(token_window_us=_micros(defaults.token_window), grace_us=_micros(defaults.tombstone_grace))

    async def build(server: Server) -> None:
        def clock_us() -> int:
            return clock.time_ns() // 1000

        try:
            options = dataclasses.replace(_options(config), mirrors=mirror_openers(config, clock_us, local))
            store, datacentres = await open_backend(server, config, clock_us, local)
            tokens = _tokens(config.page_tokens, clock, await store.signing_key())
            deployment = _deployment(config, local, datacentres)
            registry = await add_storage(server, store, tokens, clock, deployment, options)
            if config.HasField("publishing"):
                # Its client is imported where it is wanted: it costs a server time and memory.
                from services.storage.publishing.opening import add_publishing

                await add_publishing(server, config.publishing, store, registry, clock, shared=options.shared)
        except (WellspringError, ConfigError) as error:
            raise StartError(error.message) from None

    return run(
        build,
        wiring.server_options("storage", config.server),
        auth=wiring.auth_options(config.auth),
        telemetry=wiring.telemetry_options(config.telemetry),
    )


def _tokens(config: backend_pb2.PageTokens, clock: SystemClock, own_key: bytes) -> Tokens:
    lasting = backend_pb2.PageTokens(keys_file=config.keys_file, lifetime=Duration(seconds=RESUME_LIFETIME_S))
    pages = wiring.page_tokens(config, clock, lambda: own_key)
    return Tokens(pages, wiring.page_tokens(lasting, clock, lambda: own_key))


def _deployment(config: storage_pb2.StorageConfig, local: LocalOptions, datacentres: tuple[str, ...]) -> Deployment:
    defaults = config.namespace_defaults
    return Deployment(
        datacentres=datacentres,
        max_drift_us=local.max_drift_us,
        max_namespaces=config.limits.max_namespaces,
        drift_us=_micros(defaults.max_clock_drift),
        feed_window_us=_micros(defaults.feed_window),
        quota=Quota(
            max_bytes=defaults.max_bytes,
            max_reads_per_s=defaults.max_reads_per_s,
            max_writes_per_s=defaults.max_writes_per_s,
            max_concurrent=defaults.max_concurrent,
        ),
        grace_us=_micros(defaults.delete_grace),
        ttl_jitter=defaults.ttl_jitter,
    )


def _options(config: storage_pb2.StorageConfig) -> Options:
    return Options(
        token_window_us=_micros(config.namespace_defaults.token_window),
        max_value=config.limits.max_value_bytes,
        max_page=config.limits.max_page_bytes,
        max_upload=config.limits.max_upload_bytes,
        max_watches=config.limits.max_watches,
        sweep_interval_s=wiring.seconds(config.sweep.interval),
        sweep_items=config.sweep.batch_items,
        shared=origin_of(config.backend).WhichOneof("kind") == "cassandra",
        backups=_backups(config),
    )


def _backups(config: storage_pb2.StorageConfig) -> Backups | None:
    """The folder for snapshots: that of the configuration, else one inside the embedded backend's own."""
    path = config.backups.path
    origin = origin_of(config.backend)
    if not path and origin.WhichOneof("kind") == "embedded":
        path = os.path.join(origin.embedded.path, "backups")
    return Backups(Path(path), config.backups.reserve_bytes) if path else None


def _micros(duration: Duration) -> int:
    micros: int = duration.ToMicroseconds()
    return micros


if __name__ == "__main__":
    sys.exit(main())
