"""Messages to events: a JSON object each, or a CloudEvent; what is none is told with its reason, never passed over."""

import json
from collections.abc import Mapping

from libs.kafka.consumer import Record
from services.propagation.kafka.cloudevents import NoCloudEvent, event_of, is_one
from services.propagation.rules.schemas import mismatch
from services.propagation.rules.sources import Delivery

HOPS_HEADER = "wellspring-hops"
"""How many rules published one after the other to bring the message about."""
_MOST_DIGITS = 6
_NS = 1_000_000


def delivery_of(record: Record, schema: str = "") -> Delivery:
    """The message as a delivery. Its position is the offset of the message after. What is not of the schema that it
    names is none, and neither is what does not name `schema` where one is given."""
    position, arrived_ns = record.offset + 1, record.time_ms * _NS
    if not record.value and not is_one(record):
        return Delivery(position, None, arrived_ns, problem="is empty: a tombstone, or a message without a value")
    if is_one(record):
        try:
            return Delivery(position, event_of(record), arrived_ns, hops=_hops(record))
        except NoCloudEvent as wrong:
            return Delivery(position, None, arrived_ns, raw=record.value, problem=str(wrong))
    try:
        event = json.loads(record.value)
    except (ValueError, RecursionError) as error:
        return Delivery(position, None, arrived_ns, raw=record.value, problem=f"is no JSON: {error}")
    if not isinstance(event, Mapping):
        problem = f"is {type(event).__name__}; an event is a JSON object"
        return Delivery(position, None, arrived_ns, raw=record.value, problem=problem)
    problem = mismatch(event, schema)
    if problem:
        return Delivery(position, None, arrived_ns, raw=record.value, problem=problem)
    return Delivery(position, event, arrived_ns, hops=_hops(record))


def _hops(record: Record) -> int:
    """0 for what no rule published, or what somebody wrote there who is no rule."""
    given = dict(record.headers).get(HOPS_HEADER, b"")
    return int(given) if given.isdigit() and len(given) <= _MOST_DIGITS else 0
