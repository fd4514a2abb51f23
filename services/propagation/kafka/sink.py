"""Events to Kafka's topics: what rules publish, and what tells of retries and of garbage."""

import json

from libs.kafka.producer import Producer
from services.propagation.kafka.cloudevents import message_of
from services.propagation.rules.events import Event, meta_text


class KafkaSink:
    """See Sink. Events about one uri go to one partition, and so stay in their order."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer

    async def publish(self, topic: str, event: Event) -> None:
        """See Sink."""
        headers: list[tuple[str, bytes]] = []
        if "cloudevent" in event:
            value, headers = message_of(event)
        else:
            value = json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
        uri = meta_text(event, "uri")
        await self._producer.send(topic, value, uri.encode(errors="replace") or None, headers)
