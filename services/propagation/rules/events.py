"""What rules see: the engine's own changes as event objects, and the events that tell of retries and of garbage.

An event has `meta` with stream (its topic), uri, request_id, id, dt (ISO 8601, UTC) and domain. The shapes of the two
events that go out follow the published schemas change-prop/retry/1.0.0 and error/0.0.3.
"""

import re
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import quote

from services.propagation.domain.canaries import CANARY
from services.propagation.domain.records import RootRecord, Tally
from services.propagation.rules.rule import CANARY_DOMAIN
from services.propagation.rules.topics import CHANGED, COMPLETED

_SPACE = uuid.UUID("6f0c1f0a-5c0e-4d4e-9d7e-0f6a8c1b2d3e")
"""Names our ids: the same event has the same id each time it is told."""
_MAX_CHAIN_CHARS = 4_096

Event = Mapping[str, object]


def changed_event(record: RootRecord) -> Event:
    """An accepted change. `uri` and `domain` are the change's attributes of that name; else the resource, and what it
    has before its first slash."""
    change = record.change
    return {
        "meta": _meta_of(CHANGED, record, record.accepted_ns, str(record.sequence)),
        "resource": change.resource,
        "aspects": list(change.aspects),
        "version": change.version.hex(),
        "sequence": record.sequence,
        "lane": record.lane,
        "begun": record.begun,
        "cause": {
            "kind": change.cause.kind,
            "causer": change.cause.causer,
            "request_id": change.cause.request_id,
            "chain": list(change.cause.chain),
        },
        "attributes": dict(change.attributes),
    }


def completed_event(record: RootRecord, tally: Tally, position: int) -> Event:
    """A finished root: its change, its state (DONE, DONE_WITH_FAILURES, CANCELLED) and its counters."""
    plain = dict(changed_event(record))
    plain["meta"] = _meta_of(COMPLETED, record, record.finished_ns, str(position))
    plain |= {
        "state": record.state.name,
        "superseded_by": record.superseded_by,
        "left": record.left,
        "total": tally.total,
        "done": tally.done,
        "changed": tally.changed,
        "unchanged": tally.unchanged,
        "failed": tally.failed,
        "renderer_seconds": tally.seconds,
    }
    return plain


def retry_event(service: str, topic: str, event: Event, chain: str, status: int, left: int, now_ns: int) -> Event:
    """Tells that a request for the event failed and will be made again; `left` retries remain after that one."""
    stream = f"{service}.retry.{topic}"
    return {
        "$schema": "/change-prop/retry/1.0.0",
        "meta": _meta(stream, meta_text(event, "uri"), event, now_ns),
        "emitter_id": service,
        "original_event": event,
        "triggered_by": chain,
        "error_status": status,
        "retries_left": left,
    }


def published_event(event: Event, cause: Event, chain: str, origin: str, now_ns: int) -> Event:
    """An event as a rule made it, with what it left out: the chain that brought it about, and of its meta an id, the
    same for the same `origin`, the time, and of the event that caused it the request and the domain."""
    meta = event.get("meta")
    given: dict[str, object] = dict(meta) if isinstance(meta, Mapping) else {}
    stream = meta_text(event, "stream")
    found = _meta(stream, meta_text(event, "uri"), cause, now_ns)
    return {
        "triggered_by": chain,
        **event,
        "meta": {**found, "id": str(uuid.uuid5(_SPACE, f"{stream}/{origin}")), **given},
    }


def error_event(service: str, raw: bytes, problem: str, now_ns: int) -> Event:
    """Tells of something in a topic that is no event."""
    return {
        "$schema": "/error/0.0.3",
        "meta": _meta(f"{service}.error", "/error", {}, now_ns),
        "emitter_id": service,
        "raw_event": raw.decode(errors="replace"),
        "message": problem,
    }


def triggered_by(event: Event, topic: str) -> str:
    """What brought a request about: the event's own chain, or its request, and the event."""
    before = event.get("triggered_by")
    first = before if isinstance(before, str) and before else f"req:{meta_text(event, 'request_id')}"
    return chained(first, meta_text(event, "stream") or topic, event)


def chained(chain: str, stream: str, event: Event) -> str:
    """The chain with one more event."""
    return f"{chain},{stream}:{meta_text(event, 'uri')}"


def turns(event: Event, topic: str) -> int:
    """How often the event's chain has been at this topic with this uri: more than once, and it goes round."""
    chain = event.get("triggered_by")
    here = re.escape(chained("", meta_text(event, "stream") or topic, event))
    return len(re.findall(rf"{here}(?=,|$)", f",{chain}")) if isinstance(chain, str) else 0


def header_of(chain: str) -> str:
    """The chain as a header: printable ASCII, the newest part of it when it is too long."""
    text = quote(chain, safe="".join(map(chr, range(0x20, 0x7F))))
    return text if len(text) <= _MAX_CHAIN_CHARS else "..." + text[-_MAX_CHAIN_CHARS:]


def meta_text(event: object, name: str) -> str:
    """A text of the event's meta, empty when there is none."""
    meta = event.get("meta") if isinstance(event, Mapping) else None
    value = meta.get(name) if isinstance(meta, Mapping) else None
    return value if isinstance(value, str) else ""


def _meta_of(stream: str, record: RootRecord, at_ns: int, position: str) -> Event:
    change = record.change
    attributes = dict(change.attributes)
    domain = attributes.get("domain", change.resource.partition("/")[0])
    return {
        "stream": stream,
        "uri": attributes.get("uri", change.resource),
        "request_id": change.cause.request_id or change.id,
        "id": str(uuid.uuid5(_SPACE, f"{stream}/{position}/{change.id}")),
        "dt": _iso(at_ns),
        "domain": CANARY_DOMAIN if change.cause.kind == CANARY else domain,
    }


def _meta(stream: str, uri: str, event: Event, now_ns: int) -> Event:
    return {
        "stream": stream,
        "uri": uri,
        "request_id": meta_text(event, "request_id") or str(uuid.uuid4()),
        "id": str(uuid.uuid4()),
        "dt": _iso(now_ns),
        "domain": meta_text(event, "domain") or "unknown",
    }


def _iso(at_ns: int) -> str:
    whole, rest = divmod(at_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(whole, UTC):%Y-%m-%dT%H:%M:%S}.{rest // 1_000_000:03}Z"
