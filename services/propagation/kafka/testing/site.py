"""An engine with rules over topics of a real broker, and a target that they call."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from random import Random
from typing import Any, Self, cast

from libs.clock.clock import SystemClock
from libs.kafka.producer import Producer, Sent
from libs.kafka.testing.broker import create, options_of, send, until
from services.propagation.domain.engine import Engine
from services.propagation.domain.shard import Settings
from services.propagation.kafka.opening import open_topics
from services.propagation.rules.caller import TargetsCaller
from services.propagation.rules.rules import Rules
from services.propagation.rules.state import Letter
from services.propagation.rules.testing.site import Stub
from services.propagation.rules.topics import stream_of
from services.propagation.store.interface import Store
from services.propagation.store.memory import MemoryStore
from services.propagation.store.memory_state import MemoryDisk
from services.propagation.targets.settings import TargetSettings, settings_of
from services.propagation.targets.targets import Targets
from tools.dev.servers.kafka import Kafka
from wellspring.config.v1 import backend_pb2, propagation_pb2


class KafkaSite:
    """An engine with rules over the broker's topics. Each name of a topic gets the site's own beginning. In rules, PORT
    stands for the stub's."""

    buffer_bytes = 1 << 20
    port = 0

    def __init__(self, kafka: Kafka, partitions: int = 1, **topics_config: str) -> None:
        self.kafka, self.partitions = kafka, partitions
        self.mark = f"t{uuid.uuid4().hex[:8]}-"
        self.disk, self.stub = MemoryDisk(), Stub()
        self.named = ("simple_test_rule", "simple_test_rule2", "simple_test_rule3", "kafka_producing_rule")
        create(kafka, *(self.mark + name for name in self.named), partitions=partitions, **topics_config)
        create(kafka, self.mark + "cp.error", *(f"{self.mark}cp.retry.{self.mark}{name}" for name in self.named))
        self.begin_anew: list[str] = []
        self.schemas: dict[str, str] = {}

    def config(self) -> propagation_pb2.EventTopics:
        """Of its topics."""
        kafka = backend_pb2.KafkaCluster(bootstrap_servers=[self.kafka.address], client_id="test")
        kafka.request_timeout.FromSeconds(10)
        kafka.delivery_timeout.FromSeconds(20)
        topics = [self.mark + name for name in self.named]
        return propagation_pb2.EventTopics(
            kafka=kafka,
            topics=topics,
            begin_anew=self.begin_anew,
            buffer_bytes=self.buffer_bytes,
            schemas={self.mark + topic: title for topic, title in self.schemas.items()},
        )

    def patient(self) -> dict[str, TargetSettings]:
        """A connection that a busy machine is slow to make is no failed call."""
        target = propagation_pb2.Target(origin=f"http://127.0.0.1:{self.port}", max_concurrency=64, pipeline=1)
        target.connect_timeout.FromSeconds(60)
        return settings_of([target])

    @asynccontextmanager
    async def life(self) -> AsyncIterator[Self]:
        """One life of the engine: what was not durable is lost at its end, as by a kill."""
        self.disk.crash()
        self.engine = Engine(cast("Store", MemoryStore(self.disk)), SystemClock(), Random(1), Settings(), [], 1)  # noqa: S311  a test
        self.opened = await open_topics(self.config(), self.engine)
        try:
            server = await asyncio.start_server(self.stub.serve, "127.0.0.1", self.port)
            self.port = server.sockets[0].getsockname()[1]
            source, sink = self.opened.source, self.opened.sink
            caller = TargetsCaller(Targets(self.patient()))
            self.rules = Rules(self.engine, caller, SystemClock(), Random(1), [source], sink)  # noqa: S311  a test
            self.producer = Producer(options_of(self.kafka))
            tasks = [asyncio.create_task(work()) for work in (self.rules.run, source.run)]
            try:
                yield self
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                await self.producer.close()
                server.close()
        finally:
            await self.opened.close()

    async def put(self, rules: Mapping[str, object]) -> None:
        """Puts the rules in force."""
        text = json.dumps({"service": f"{self.mark}cp", "rules": rules})
        for name in self.named:
            text = text.replace(f'"{name}"', f'"{self.mark}{name}"')
        text = text.replace(f'"{self.mark}simple_test_rule": {{', '"simple_test_rule": {')
        await self.rules.put(text.replace("PORT", str(self.port)))

    async def send(self, topic: str, what: Mapping[str, Any] | bytes, key: str = "") -> Sent:
        """Sends, and waits until the source has seen it."""
        sent = await send(self.producer, self.mark + topic, what, key)
        stream = stream_of(self.mark + topic, sent.partition)
        await until(lambda: self.opened.source.newest(stream) > sent.offset, "the source sees what was sent")
        return sent

    async def idle(self) -> None:
        """Until everything is done."""
        await until(lambda: self.rules.runner.idle, f"idle {self.stub.calls} {self.rules.runner.reached()}")

    def letters(self) -> list[Letter]:
        """The dead letters."""
        return self.rules.query("", "", "", "", 100, b"")[0]

    @property
    def chains(self) -> list[str]:
        """What each call said of its cause, without the site's beginning of names."""
        return [chain.replace(self.mark, "") for chain in self.stub.chains]
