"""Templates of a view, compiled: filled in with one resource at a time, by the million."""

import json
import re
from collections.abc import Callable, Mapping
from string import Formatter
from typing import NamedTuple
from urllib.parse import quote

from libs.purge.naming import PATH_SAFE
from wellspring.propagation.v1 import work_pb2

Encoder = Callable[[str], str]

_PLAIN = re.compile(r"[A-Za-z0-9_.~/-]*")
BODY_FIELDS = ("resource", "view", "title", "version")
_BODY_FIELD = re.compile(rf"\{{({'|'.join(BODY_FIELDS)})\}}")


class Template:
    """Text with {fields}; a doubled brace is a brace. `encoders` say what a field is of a resource.

    Raises KeyError or ValueError for a template that views/checks.py refuses.
    """

    __slots__ = ("_fields", "_format", "_only")

    def __init__(self, text: str, encoders: Mapping[str, Encoder]) -> None:
        parts: list[str] = []
        fields: list[Encoder] = []
        for literal, field, _, _ in Formatter().parse(text):
            parts.append(literal.replace("%", "%%"))
            if field is not None:
                parts.append("%s")
                fields.append(encoders[field])
        self._format = "".join(parts)
        self._fields = tuple(fields)
        self._only = fields[0] if len(fields) == 1 else None

    def fill(self, resource: str) -> str:
        """The text for one resource."""
        if self._only is not None:
            return self._format % self._only(resource)
        return self._format % tuple(encode(resource) for encode in self._fields)


class BodyTemplate:
    """A request's body: only the known fields are replaced, so that JSON keeps its braces. `as_json`: each value is
    escaped as the inside of a JSON string."""

    def __init__(self, text: str, *, as_json: bool) -> None:
        self._parts = _BODY_FIELD.split(text)
        self._as_json = as_json

    def fill(self, values: Mapping[str, str]) -> bytes:
        """The body for one page."""
        filled = list(self._parts)
        for at in range(1, len(filled), 2):
            value = values[filled[at]]
            filled[at] = json.dumps(value)[1:-1] if self._as_json else value
        return "".join(filled).encode()


def percent_encoded(text: str) -> str:
    """As one segment of a URL, or a value of its query: all but letters, digits and "_.-~"."""
    return text.replace("/", "%2F") if _PLAIN.fullmatch(text) else quote(text, safe="")


def path_encoded(text: str) -> str:
    """As a path of several segments."""
    return text if _PLAIN.fullmatch(text) else quote(text, safe=PATH_SAFE)


def title_of(resource: str) -> str:
    """The last part of a resource's name."""
    return resource.rpartition("/")[2]


def request_encoders(view: str) -> dict[str, Encoder]:
    """What stands in the URL of a request to a renderer or to a hook."""
    encoded_view = percent_encoded(view)
    return {
        "resource": percent_encoded,
        "view": lambda _: encoded_view,
        "title": lambda resource: percent_encoded(title_of(resource)),
    }


class Effects(NamedTuple):
    """Where one output goes, and what forgets its predecessor."""

    record: bytes
    urls: tuple[str, ...]
    tags: tuple[str, ...]


class EffectTemplates:
    """A view's record, URLs and tags: {resource}, {name} (without the view's prefix) and {path} ({name} for a URL)."""

    def __init__(self, view: work_pb2.View) -> None:
        prefixes = tuple(view.resource_prefixes)

        def name(resource: str) -> str:
            for prefix in prefixes:
                if resource.startswith(prefix):
                    return resource[len(prefix) :]
            return resource

        in_url: dict[str, Encoder] = {
            "resource": percent_encoded,
            "name": lambda resource: percent_encoded(name(resource)),
            "path": lambda resource: path_encoded(name(resource)),
        }
        record = view.store.record or "{resource}"
        self._record = None if record == "{resource}" else Template(record, {"resource": str, "name": name})
        self._urls = [Template(url, in_url) for url in view.purge.urls]
        self._tags = [Template(tag, in_url) for tag in view.purge.tags]

    def of(self, resource: str) -> Effects:
        """The effects of one resource's render."""
        return Effects(
            (self._record.fill(resource) if self._record is not None else resource).encode(),
            tuple([url.fill(resource) for url in self._urls]),
            tuple([tag.fill(resource) for tag in self._tags]) if self._tags else (),
        )


def effects_of(view: work_pb2.View, resource: str) -> Effects:
    """The same for one resource alone."""
    return EffectTemplates(view).of(resource)
