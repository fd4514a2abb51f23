"""Who is in a consumer group, and which partitions of a topic each member has."""

from dataclasses import dataclass

from confluent_kafka import ConsumerGroupState

from libs.kafka.topics import Topics


@dataclass(frozen=True, slots=True)
class Member:
    """A member, by the client.id that it gave, and its partitions of the topic that was asked about."""

    client_id: str
    partitions: frozenset[int]


class Groups(Topics):
    """Asks one cluster about its groups, as `Topics` does about topics."""

    async def members(self, group: str, topic: str) -> list[Member] | None:
        """The group's members; None while it divides its partitions anew. Raises BrokersAway, AccessRefused."""
        asked = self._admin.describe_consumer_groups([group], request_timeout=self._timeout_s)
        found = await self._answer(asked[group], topic)
        if found.state != ConsumerGroupState.STABLE:
            return None
        return [
            Member(
                one.client_id,
                frozenset(part.partition for part in one.assignment.topic_partitions if part.topic == topic),
            )
            for one in found.members
        ]
