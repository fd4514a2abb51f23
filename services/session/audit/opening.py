"""From the configuration to an audit: the file, and the topic that it is sent on to."""

import logging
from dataclasses import replace
from pathlib import Path

from prometheus_client import CollectorRegistry

from libs.config import wiring
from libs.config.kafka import kafka_options
from libs.errors.errors import Unavailable
from libs.telemetry.logs import fields
from services.session.audit.chain import Sign
from services.session.audit.file import AuditFile, AuditUnusable
from services.session.audit.forwarding import Forwarder
from services.session.audit.topic import KafkaTopic
from wellspring.config.v1 import session_pb2 as config_pb

log = logging.getLogger(__name__)


class Audit:
    """The file and, where it is sent on, the sender."""

    def __init__(self, file: AuditFile, forwarder: Forwarder | None) -> None:
        self.file = file
        self.forwarder = forwarder

    async def check(self) -> None:
        """Raises while the disk refuses, or too much waits for the topic."""
        await self.file.check()
        if self.forwarder is not None:
            await self.forwarder.check()

    async def close(self) -> None:
        """Signs the last head, and sends what is left if that goes quickly."""
        await self.file.close()
        if self.forwarder is not None:
            await self.forwarder.finish()


async def open_audit(config: config_pb.Audit, datacentre: str, sign: Sign, registry: CollectorRegistry) -> Audit:
    """Raises AuditUnusable and ConfigError; and TopicUnfit, TopicMissing or AccessRefused when brokers answer and the
    topic is none for an audit. Brokers that do not answer stop no start: the file is sent on when they do."""
    if config.HasField("kafka") and not config.file:
        raise AuditUnusable("audit.kafka needs audit.file: entries are sent out of it")
    topic = None
    if config.HasField("kafka"):
        options = replace(kafka_options(config.kafka, "audit.kafka"), delivery_timeout_s=0.0)
        topic = KafkaTopic(options, config.topic)
        try:
            await topic.check()
        except Unavailable as error:
            what = "the audit's topic cannot be reached; its file is sent on later"
            log.warning(what, extra=fields(problem=error.message))
    path = Path(config.file)
    file = AuditFile(path, datacentre, sign, kept_for_s=wiring.seconds(config.kept_for))
    if topic is None:
        return Audit(file, None)
    sender = Forwarder(file, path, datacentre, topic, most_bytes=config.max_unsent_bytes, registry=registry)
    return Audit(file, sender)
