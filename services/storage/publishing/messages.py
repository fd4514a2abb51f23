"""A change as a message of Kafka: a CloudEvent 1.0 in binary mode (protocol binding for Kafka, version 1.0.2).

The message's key is the record's, so that the changes of a record stand in one partition, in order. Its value is the
contract's ``ChangeEvent`` as JSON.
"""

import json
from datetime import UTC, datetime
from typing import Final, NamedTuple
from urllib.parse import quote

from google.protobuf.json_format import MessageToDict

from services.storage import answers
from services.storage.domain.feed import ChangeEvent, change_id
from services.storage.domain.namespace import Namespace

TYPE: Final = "wellspring.storage.changed.v1"


class Message(NamedTuple):
    """What is sent."""

    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


def message_of(event: ChangeEvent, namespace: Namespace) -> Message:
    """The message of a change. ``id`` is the change's own: the same however often it is sent; ``subject`` the record,
    percent-encoded."""
    attributes = {
        "specversion": "1.0",
        "id": change_id(namespace.name, event.version, event.record),
        "source": f"urn:wellspring:storage:{namespace.name}",
        "type": TYPE,
        "subject": quote(event.record, safe="/:"),
        "time": datetime.fromtimestamp(event.time_us / 1_000_000, UTC).isoformat().replace("+00:00", "Z"),
    }
    data = MessageToDict(answers.event(event, namespace))
    headers = [("content-type", b"application/json")]
    headers += [(f"ce_{name}", text.encode()) for name, text in attributes.items()]
    return Message(event.record, json.dumps(data, separators=(",", ":")).encode(), tuple(headers))
