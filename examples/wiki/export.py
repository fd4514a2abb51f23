"""The elements of a MediaWiki export: from SAX events to pages (https://www.mediawiki.org/wiki/Help:Export#Export_format).

Only the few elements that a page needs are kept; the rest is counted and forgotten. Whatever breaks a rule is
`Refused`, to which the reader of the file adds the position.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from xml.sax.handler import ContentHandler
from xml.sax.xmlreader import AttributesNSImpl

SCHEMA = re.compile(r"http://www\.mediawiki\.org/xml/export-0\.([3-9]|10|11)/")
MAX_DEPTH = 16
MAX_TITLE_BYTES = 512
"""A name of 255 bytes and the longest namespace before it, with room."""
MAX_FIELD_BYTES = 4096

_REDIRECT = re.compile(r"\s*#[^\s\[]+\s*:?\s*\[\[([^\[\]|\n]+)")


class Refused(ValueError):
    """The export breaks a rule; the message says which, and what is allowed."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page with one revision. `redirect` is the title that it redirects to, None for no redirect.

    `timestamp` is as in the export (ISO 8601, UTC), "" when there is none; `text` is "" where it was suppressed.
    """

    title: str
    namespace: int
    page_id: int
    revision_id: int
    timestamp: str
    text: str
    redirect: str | None


_FIELDS = {
    "siteinfo/dbname": "dbname",
    "siteinfo/namespaces/namespace": "namespace",
    "page/title": "title",
    "page/ns": "ns",
    "page/id": "page_id",
    "page/revision/id": "revision_id",
    "page/revision/timestamp": "timestamp",
    "page/revision/text": "text",
}


class Handler(ContentHandler):
    """Collects pages; `take()` hands over those that are complete."""

    def __init__(self, page_bytes: int, gap_bytes: int) -> None:
        super().__init__()
        self.site = ""
        self.schema = ""
        self.progress = 0
        """Grows with every event: a file that makes the parser work without any is suspect."""
        self._page_bytes = page_bytes
        self._gap_bytes = gap_bytes
        self._gap = 0
        self._uri = ""
        self._path: list[str] = []
        self._namespaces: dict[str, int] = {}
        self._namespace_key = 0
        self._fields: dict[str, str] = {}
        self._redirect: str | None = None
        self._ready: list[Page] = []
        self._sink: list[str] | None = None
        self._sink_name = ""
        self._sink_bytes = 0

    def take(self) -> list[Page]:
        """The pages that became complete since the last call."""
        ready, self._ready = self._ready, []
        return ready

    def startElementNS(self, name: tuple[str | None, str], qname: str | None, attrs: AttributesNSImpl) -> None:
        self.progress += 1
        self._skip(len(name[1]))
        uri, local = name[0] or "", name[1]
        if not self._path:
            self._start_export(uri, local)
        elif uri != self._uri:
            local = "?"
        self._path.append(local)
        if len(self._path) > MAX_DEPTH:
            raise Refused(f"elements nest more than {MAX_DEPTH} deep")
        path = "/".join(self._path[1:])
        if path == "page":
            self._fields, self._redirect = {}, None
        elif path == "page/redirect":
            self._redirect = str(attrs.get((None, "title")) or "")
        elif path in _FIELDS:
            self._sink, self._sink_name, self._sink_bytes = [], _FIELDS[path], 0
            if path == "siteinfo/namespaces/namespace":
                self._namespace_key = _integer(str(attrs.get((None, "key")) or ""), "the key of a namespace")

    def characters(self, content: str) -> None:
        self.progress += 1
        if self._sink is None:
            self._skip(len(content.encode()))
            return
        self._sink_bytes += len(content.encode())
        limit = {"text": self._page_bytes, "title": MAX_TITLE_BYTES}.get(self._sink_name, MAX_FIELD_BYTES)
        if self._sink_bytes > limit:
            owner = f" of {self._fields['title']!r}" if self._sink_name != "title" and "title" in self._fields else ""
            raise Refused(f"the {self._sink_name}{owner} has more than {limit} bytes")
        self._sink.append(content)

    def endElementNS(self, name: tuple[str | None, str], qname: str | None) -> None:
        self.progress += 1
        path = "/".join(self._path[1:])
        self._path.pop()
        if self._sink is not None and _FIELDS.get(path) == self._sink_name:
            self._keep(self._sink_name, "".join(self._sink))
            self._sink = None
        elif path == "page":
            self._ready.append(self._page())
            self._gap = 0

    def _skip(self, size: int) -> None:
        """Count what belongs to no kept field, from one page to the next."""
        self._gap += size
        if self._gap > self._gap_bytes:
            raise Refused(f"more than {self._gap_bytes} bytes that belong to no page's text")

    def _start_export(self, uri: str, local: str) -> None:
        schema = SCHEMA.fullmatch(uri)
        if local != "mediawiki" or not schema:
            shown = f"<{local[:40]}> of {uri[:80]!r}" if uri else f"<{local[:40]}>"
            raise Refused(
                f"the file is not a MediaWiki export: its first element is {shown}; needed is <mediawiki> of "
                "http://www.mediawiki.org/xml/export-0.N/ with N from 3 to 11"
            )
        self._uri, self.schema = uri, f"0.{schema[1]}"

    def _keep(self, name: str, value: str) -> None:
        if name == "dbname":
            self.site = value.strip()
        elif name == "namespace":
            self._namespaces[value.strip()] = self._namespace_key
        elif name == "title":
            title = value.strip()
            if not title or any(unicodedata.category(char) in ("Cc", "Cs") for char in title):
                raise Refused(f"a page's title is {title[:80]!r}; it may neither be empty nor hold control characters")
            self._fields[name] = title
        else:
            self._fields[name] = value

    def _page(self) -> Page:
        fields = self._fields
        if "title" not in fields:
            raise Refused("a page has no <title>")
        title, text = fields["title"], fields.get("text", "")
        redirect = self._redirect
        if redirect == "":
            # Before schema 0.6 the element does not say where to.
            target = _REDIRECT.match(text)
            redirect = target[1].strip() if target else None
        namespace = self._namespaces.get(title.partition(":")[0], 0) if ":" in title else 0
        if "ns" in fields:
            namespace = _integer(fields["ns"], f"the <ns> of {title!r}")
        return Page(
            title=title,
            namespace=namespace,
            page_id=_integer(fields.get("page_id", "0"), f"the <id> of {title!r}"),
            revision_id=_integer(fields.get("revision_id", "0"), f"the revision's <id> of {title!r}"),
            timestamp=fields.get("timestamp", "").strip(),
            text=text,
            redirect=redirect,
        )


def _integer(text: str, what: str) -> int:
    if not re.fullmatch(r"\s*-?[0-9]{1,18}\s*", text):
        raise Refused(f"{what} is {text[:40]!r}; needed is a whole number")
    return int(text)
