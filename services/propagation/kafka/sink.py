"""Events to Kafka's topics: what rules publish, and what tells of retries and of garbage."""

import json

from libs.kafka.producer import Producer
from services.propagation.kafka.cloudevents import message_of
from services.propagation.kafka.reading import HOPS_HEADER
from services.propagation.rules.events import Event, meta_text


class KafkaSink:
    """See Sink. Events about one uri go to one partition, and so stay in their order."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer

    async def publish(self, topic: str, event: Event, hops: int = 0) -> None:
        """See Sink."""
        headers: list[tuple[str, bytes]] = [(HOPS_HEADER, str(hops).encode())] if hops else []
        if "cloudevent" in event:
            value, more = message_of(event)
            headers += more
        else:
            value = json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
        uri = meta_text(event, "uri")
        await self._producer.send(topic, value, uri.encode(errors="replace") or None, headers)
