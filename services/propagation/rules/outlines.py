"""What a rules file shows of the events and changes that its rules make: texts as they stand, UNKNOWN for what is
filled in.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from services.propagation.rules.matching import UNKNOWN
from services.propagation.rules.reading import Reader
from services.propagation.rules.topics import CHANGED, COMPLETED

SAME_TOPIC: Final = "{{message.meta.stream}}"
"""The topic of the event itself."""
_FILLED_IN: Final = ("id", "dt", "request_id", "domain")
"""Of a published event's meta, what the engine fills in where the rule says nothing."""


def outline(node: Node) -> object:
    """The value that the node stands for, as far as it is known."""
    if isinstance(node, MappingNode):
        return {key.value: outline(value) for key, value in node.value if isinstance(key, ScalarNode)}
    if isinstance(node, SequenceNode):
        return [outline(member) for member in node.value]
    if isinstance(node, ScalarNode) and node.tag.endswith(":str"):
        text = node.value.replace(" ", "")
        return SAME_TOPIC if text == SAME_TOPIC else UNKNOWN if "{{" in node.value else node.value
    # Its mistakes are told by those who read it for good.
    return Reader().plain(node, "") if isinstance(node, ScalarNode) else UNKNOWN


def published(given: object) -> Iterator[tuple[str, Mapping[str, object]]]:
    """(topic, event) of each published event whose topic is known; the topic may be SAME_TOPIC."""
    for one in given if isinstance(given, Sequence) and not isinstance(given, str) else [given]:
        meta = one.get("meta") if isinstance(one, Mapping) else None
        topic = meta.get("stream") if isinstance(meta, Mapping) else None
        if isinstance(one, Mapping) and isinstance(meta, Mapping) and isinstance(topic, str):
            known = {**dict.fromkeys(_FILLED_IN, UNKNOWN), **meta}
            yield topic, {"triggered_by": UNKNOWN, **one, "meta": known}


def announced(given: object) -> Iterator[tuple[str, Mapping[str, object]]]:
    """(topic, event) of what the engine tells of each change that is made."""
    for one in given if isinstance(given, Sequence) and not isinstance(given, str) else [given]:
        change = one if isinstance(one, Mapping) else {}
        cause = change.get("cause")
        kind = cause.get("kind", UNKNOWN) if isinstance(cause, Mapping) else UNKNOWN if "cause" in change else "event"
        known = _Partly({"resource": change.get("resource", UNKNOWN), "cause": _Partly({"kind": kind})})
        yield CHANGED, known
        yield COMPLETED, known


class _Partly(dict[str, object]):
    """Members beyond those that it has are not known."""

    def get(self, key: str, default: object = None) -> object:
        return super().get(key, UNKNOWN)
