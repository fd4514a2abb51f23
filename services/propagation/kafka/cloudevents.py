"""CloudEvents 1.0 in Kafka's messages, both ways (protocol binding for Kafka, version 1.0.2).

A rule sees one as an event with `cloudevent` (its attributes and extensions, as texts), `data`, and a `meta` like all
events: stream (the topic), id, uri (the subject, or the source), dt and domain (the source's host). A rule that
publishes an event with `cloudevent` sends one in binary mode: attributes as headers, `data` as the value.
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import urlsplit

from libs.errors.errors import InvalidArgument
from libs.kafka.consumer import Record
from services.propagation.rules.events import Event, meta_text

STRUCTURED = "application/cloudevents"
VERSION = "1.0"
_PREFIX = "ce_"
_REQUIRED = ("id", "source", "type")
_NAME = re.compile(r"[a-z0-9]{1,64}")
_JSON = re.compile(r"[\w.+-]+/(?:[\w.+-]+\+)?json\s*(?:;.*)?", re.IGNORECASE)


class NoCloudEvent(Exception):
    """The text says what is wrong with a message that says that it is one."""


def is_one(record: Record) -> bool:
    """Whether the message says of itself, by its headers, that it is a CloudEvent."""
    headers = dict(record.headers)
    return "ce_specversion" in headers or _content_type(headers).startswith(STRUCTURED)


def event_of(record: Record) -> Event:
    """The message as an event. Raises NoCloudEvent."""
    headers = dict(record.headers)
    if _content_type(headers).startswith(STRUCTURED):
        attributes, data = _structured(record, _content_type(headers))
    else:
        attributes, data = _binary(record, headers)
    if attributes.pop("specversion", "") != VERSION:
        raise NoCloudEvent(f"is a CloudEvent of another version than {VERSION}")
    missing = [name for name in _REQUIRED if not attributes.get(name)]
    if missing:
        raise NoCloudEvent(f"is a CloudEvent without {', '.join(missing)}")
    wrong = [name for name in attributes if not _NAME.fullmatch(name)]
    if wrong:
        raise NoCloudEvent(f'is a CloudEvent with the attribute "{wrong[0][:64]}"; names are 1 to 64 of a-z and 0-9')
    source = attributes["source"]
    written = datetime.fromtimestamp(record.time_ms / 1000, UTC).isoformat().replace("+00:00", "Z")
    meta = {
        "stream": record.topic,
        "id": attributes["id"],
        "uri": attributes.get("subject") or source,
        "dt": attributes.get("time", written),
        "domain": _host(source),
        "request_id": attributes["id"],
    }
    return {"meta": meta, "cloudevent": attributes, "data": data}


def message_of(event: Event) -> tuple[bytes, list[tuple[str, bytes]]]:
    """Value and headers of an event that has `cloudevent`. Raises InvalidArgument."""
    given = event.get("cloudevent")
    if not isinstance(given, Mapping):
        raise InvalidArgument.field("cloudevent", "is no mapping of attributes: type and source at least")
    attributes = {"specversion": VERSION, "id": meta_text(event, "id"), "time": meta_text(event, "dt"), **given}
    wrong = [str(name) for name, value in attributes.items() if not _NAME.fullmatch(str(name)) or not _is_text(value)]
    if wrong:
        what = "is no attribute of a CloudEvent: 1 to 64 of a-z and 0-9, and a text are allowed"
        raise InvalidArgument.field(f"cloudevent.{wrong[0][:64]}", what)
    for name in _REQUIRED:
        if not attributes.get(name):
            raise InvalidArgument.field(f"cloudevent.{name}", "is missing")
    if attributes["specversion"] != VERSION:
        raise InvalidArgument.field("cloudevent.specversion", f"is not {VERSION}")
    content_type = str(attributes.pop("datacontenttype", "application/json"))
    data = event.get("data")
    if isinstance(data, str) and not _JSON.fullmatch(content_type):
        value = data.encode(errors="replace")
    else:
        value = (
            b""
            if data is None
            else json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
        )
    headers = [("content-type", content_type.encode(errors="replace"))]
    headers += [(f"{_PREFIX}{name}", str(text).encode(errors="replace")) for name, text in attributes.items() if text]
    return value, headers


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _content_type(headers: Mapping[str, bytes]) -> str:
    found = next((value for name, value in headers.items() if name.lower() == "content-type"), b"")
    return found.decode(errors="replace").strip().lower()


def _binary(record: Record, headers: Mapping[str, bytes]) -> tuple[dict[str, str], object]:
    try:
        attributes = {
            name.removeprefix(_PREFIX): value.decode() for name, value in headers.items() if name.startswith(_PREFIX)
        }
    except UnicodeDecodeError:
        raise NoCloudEvent("is a CloudEvent with a header that is not UTF-8") from None
    content_type = _content_type(headers)
    if content_type:
        attributes["datacontenttype"] = content_type
    return attributes, _data(record.value, content_type or "application/json")


def _structured(record: Record, content_type: str) -> tuple[dict[str, str], object]:
    if not content_type.removeprefix(STRUCTURED).startswith("+json"):
        raise NoCloudEvent(f'is a CloudEvent as "{content_type[:64]}"; {STRUCTURED}+json is read')
    plain = _parsed(record.value)
    if not isinstance(plain, Mapping):
        raise NoCloudEvent("is a structured CloudEvent and no JSON object")
    if "data_base64" in plain:
        try:
            raw = base64.b64decode(str(plain["data_base64"]), validate=True)
        except binascii.Error:
            raise NoCloudEvent("is a CloudEvent whose data_base64 is not base64") from None
        data = _data(raw, str(plain.get("datacontenttype", "application/octet-stream")))
    else:
        data = plain.get("data")
    named = {str(name): value for name, value in plain.items() if name not in ("data", "data_base64")}
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in named.items()}, data


def _data(raw: bytes, content_type: str) -> object:
    """JSON as it is read, text as text; what is neither, as base64."""
    if not raw:
        return None
    if _JSON.fullmatch(content_type):
        return _parsed(raw)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return base64.b64encode(raw).decode()


def _parsed(raw: bytes) -> object:
    try:
        found: object = json.loads(raw)
    except (ValueError, RecursionError):
        raise NoCloudEvent("is a CloudEvent whose data is no JSON") from None
    return found


def _host(source: str) -> str:
    try:
        return urlsplit(source).hostname or "unknown"
    except ValueError:
        return "unknown"
