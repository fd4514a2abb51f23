"""Names of topics: those of the engine's own log, and streams: what is in order within a topic."""

CHANGED = "wellspring.resource.changed.v1"
"""Accepted changes."""
COMPLETED = "wellspring.change.completed.v1"
"""Finished roots."""
ENGINE_TOPICS = frozenset((CHANGED, COMPLETED))
_PARTITION = "#"  # in no topic's name


def stream_of(topic: str, partition: int) -> str:
    """The stream of a partition. A topic that is in order as a whole is a stream itself."""
    return f"{topic}{_PARTITION}{partition}"


def topic_of(stream: str) -> str:
    """The topic whose stream it is."""
    return stream.partition(_PARTITION)[0]


def partition_of(stream: str) -> int:
    """The partition whose stream it is; 0 of a topic that has none."""
    number = stream.partition(_PARTITION)[2]
    return int(number) if number else 0
