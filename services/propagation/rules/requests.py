"""What a rule does for an event: a request, built of templates, or events for other rules."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlencode, urlsplit

from services.propagation.rules.carrying import carried
from services.propagation.rules.changes import Announce
from services.propagation.rules.matching import ABSENT, UNKNOWN
from services.propagation.rules.templates import Place, Template, TemplateFailed, Tree, as_text

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "PURGE")
_HOST = re.compile(r"[A-Za-z0-9._:\[\]-]*")
_HEADER_VALUE = re.compile(r"[\x20-\x7e\t]*")
_SCHEMES = ("http", "https")
_KEPT = "%/:=&?~#+!$,;'@()*[]"
"""Characters of an address that stand as they are; others are percent-encoded."""
MAX_URL_CHARS = 8_192
MAX_BODY_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request that is ready to be sent. Header names are lower-case."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    timeout_s: float

    def shown(self) -> dict[str, object]:
        """The request for people."""
        told: dict[str, object] = {"method": self.method, "url": self.url, "headers": dict(self.headers)}
        if self.body:
            told["body"] = self.body.decode(errors="replace")
        return told


@dataclass(frozen=True, slots=True)
class Publication:
    """Events for other rules: (topic, event) each."""

    events: tuple[tuple[str, Mapping[str, object]], ...]

    def shown(self) -> dict[str, object]:
        """The events for people."""
        return {"publish": [{"topic": topic, "event": dict(event)} for topic, event in self.events]}


@dataclass(frozen=True, slots=True)
class Call:
    """The template of a request. With `cloudevent` it carries one: its attributes as headers, or, where its content
    type is that of structured events, the whole of it as the body."""

    method: str
    url: Template
    headers: Mapping[str, Template]
    query: Mapping[str, Template]
    body: Tree | None
    timeout_s: float
    cloudevent: Mapping[str, Template] | None = None

    def build(self, context: Mapping[str, object]) -> Request:
        """The request. Raises TemplateFailed when the event has not what it needs."""
        headers = {name: _header(name, template.text(context)) for name, template in self.headers.items()}
        value = self.body(context) if self.body is not None else None
        if self.cloudevent is not None:
            attributes = {name: template.text(context) for name, template in self.cloudevent.items()}
            value = carried(attributes, value, headers)
        return Request(self.method, self._url(context), headers, self._body(value, headers), self.timeout_s)

    def _url(self, context: Mapping[str, object]) -> str:
        text = ""
        for part in self.url.parts:
            if isinstance(part, Place):
                value = part.text(context)
                _check_insert(text, value, part.shown)
                text += value
            else:
                text += part
        if any(ord(char) < 0x20 or ord(char) == 0x7F for char in text) or "\\" in text:
            raise TemplateFailed("the address has a control character or a backslash")
        url = quote(text, safe=_KEPT)
        query = [(name, template.text(context)) for name, template in self.query.items()]
        if query:
            url += ("&" if "?" in url else "?") + urlencode(query)
        parts = urlsplit(url)
        if parts.scheme not in _SCHEMES or not parts.hostname or "@" in parts.netloc or len(url) > MAX_URL_CHARS:
            shown = url if len(url) <= 200 else url[:200] + "…"
            raise TemplateFailed(f'"{shown}" is no address of at most {MAX_URL_CHARS:,} characters')
        return url

    def _body(self, value: object, headers: dict[str, str]) -> bytes:
        if value is None and (self.body is None or self.cloudevent is not None):
            return b""
        if value is ABSENT:
            raise TemplateFailed("the body's field is not in the event")
        if not isinstance(value, str):
            headers.setdefault("content-type", "application/json")
        body = (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)).encode(errors="replace")
        if len(body) > MAX_BODY_BYTES:
            raise TemplateFailed(f"the body has {len(body):,} bytes; at most {MAX_BODY_BYTES:,} are sent")
        return body


@dataclass(frozen=True, slots=True)
class Publish:
    """The template of events for other rules: each names its topic in meta.stream. `outline` is what the file tells of
    them (outlines.py)."""

    events: Tree
    outline: object = UNKNOWN

    def build(self, context: Mapping[str, object]) -> Publication:
        """The events. Raises TemplateFailed."""
        value = self.events(context)
        events: list[tuple[str, Mapping[str, object]]] = []
        for one in value if isinstance(value, list) else [value]:
            meta = one.get("meta") if isinstance(one, Mapping) else None
            topic = meta.get("stream") if isinstance(meta, Mapping) else None
            if not isinstance(one, Mapping) or not isinstance(topic, str) or not topic:
                raise TemplateFailed("an event to publish has no meta.stream")
            events.append((topic, one))
        return Publication(tuple(events))


Action = Call | Publish | Announce


def _header(name: str, value: str) -> str:
    if not _HEADER_VALUE.fullmatch(value):
        raise TemplateFailed(f"the header {name} would have characters that are not printable ASCII; encode(…) it")
    return value


def _check_insert(before: str, value: str, shown: str) -> None:
    """An event decides neither how an address is read nor, beyond the name itself, whose it is."""
    scheme, separator, rest = before.partition("://")
    if not separator:
        if scheme or value not in _SCHEMES:
            raise TemplateFailed(f'{{{{{shown}}}}} is "{as_text(value)[:64]}", no scheme; http or https is allowed')
    elif not set(rest) & set("/?#") and not _HOST.fullmatch(value):
        raise TemplateFailed(f'{{{{{shown}}}}} is "{value[:64]}", no name of a host')
