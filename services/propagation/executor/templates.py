"""Templates of a view, compiled: filled in with one resource, or with all of a slice together, by the million.

Whatever is done to each of many texts is done to all of them in as few steps as there are: joined by line feeds, which
no resource's name holds, they are looked through and changed as one.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from string import Formatter
from typing import NamedTuple
from urllib.parse import quote

from libs.purge.naming import PATH_SAFE
from wellspring.propagation.v1 import work_pb2

Encoder = Callable[[Sequence[str]], Sequence[str]]
"""What a field is of each of the resources, in order."""

_PLAIN_LINES = re.compile(r"[A-Za-z0-9_.~/\n-]*")
BODY_FIELDS = ("resource", "view", "title", "version")
_BODY_FIELD = re.compile(rf"\{{({'|'.join(BODY_FIELDS)})\}}")


class Template:
    """Text with {fields}; a doubled brace is a brace. `encoders` say what a field is of resources.

    Raises KeyError or ValueError for a template that views/checks.py refuses.
    """

    __slots__ = ("_fields", "_texts")

    def __init__(self, text: str, encoders: Mapping[str, Encoder]) -> None:
        # One more text than fields: what stands before, between and after them.
        self._texts = [""]
        self._fields: list[Encoder] = []
        for literal, field, _, _ in Formatter().parse(text):
            self._texts[-1] += literal
            if field is not None:
                self._texts.append("")
                self._fields.append(encoders[field])

    def fill(self, resources: Sequence[str], before: str = "", after: str = "") -> list[str]:
        """The text for each resource, in order, between the same two texts."""
        texts = self._texts
        if not self._fields:
            return [f"{before}{texts[0]}{after}"] * len(resources)
        first, last = before + texts[0], texts[-1] + after
        columns = [encode(resources) for encode in self._fields]
        if len(columns) == 1:
            return [f"{first}{value}{last}" for value in columns[0]]
        between = texts[1:-1]
        filled = []
        for values in zip(*columns, strict=True):
            inner = "".join([f"{text}{value}" for text, value in zip(between, values[1:], strict=True)])
            filled.append(f"{first}{values[0]}{inner}{last}")
        return filled


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


def percent_encoded(texts: Sequence[str]) -> list[str]:
    """Each as one segment of a URL, or a value of its query: all but letters, digits and "_.-~"."""
    lines = _plain_lines(texts)
    return [quote(text, safe="") for text in texts] if lines is None else lines.replace("/", "%2F").split("\n")


def path_encoded(texts: Sequence[str]) -> Sequence[str]:
    """Each as a path of several segments."""
    return [quote(text, safe=PATH_SAFE) for text in texts] if _plain_lines(texts) is None else texts


def _plain_lines(texts: Sequence[str]) -> str | None:
    """All in one, if none of them needs to be encoded."""
    if not texts:
        return None
    lines = "\n".join(texts)
    plain = _PLAIN_LINES.fullmatch(lines) is not None and lines.count("\n") == len(texts) - 1
    return lines if plain else None


def title_of(resource: str) -> str:
    """The last part of a resource's name."""
    return resource.rpartition("/")[2]


def request_encoders(view: str) -> dict[str, Encoder]:
    """What stands in the URL of a request to a renderer or to a hook."""
    encoded_view = percent_encoded([view])
    return {
        "resource": percent_encoded,
        "view": lambda resources: encoded_view * len(resources),
        "title": lambda resources: percent_encoded([title_of(resource) for resource in resources]),
    }


def _names_of(view: work_pb2.View) -> Callable[[Sequence[str]], list[str]]:
    """What gives the names of resources without the view's prefix."""
    prefixes = tuple(view.resource_prefixes)

    def name(resource: str) -> str:
        for prefix in prefixes:
            if resource.startswith(prefix):
                return resource[len(prefix) :]
        return resource

    def names(resources: Sequence[str]) -> list[str]:
        if len(prefixes) == 1:
            prefix = prefixes[0]
            return [resource.removeprefix(prefix) for resource in resources]
        return [name(resource) for resource in resources]

    return names


def url_encoders(view: work_pb2.View) -> dict[str, Encoder]:
    """What stands in the URLs and tags of a view's outputs."""
    names = _names_of(view)
    return {
        "resource": percent_encoded,
        "name": lambda resources: percent_encoded(names(resources)),
        "path": lambda resources: path_encoded(names(resources)),
    }


class Effects(NamedTuple):
    """Where outputs go, and what forgets their predecessors: by resource, in order."""

    records: Sequence[bytes]
    urls: Sequence[tuple[str, ...]]
    tags: Sequence[tuple[str, ...]]


class EffectTemplates:
    """A view's record, URLs and tags: {resource}, {name} (without the view's prefix) and {path} ({name} for a URL)."""

    def __init__(self, view: work_pb2.View) -> None:
        names, in_url = _names_of(view), url_encoders(view)
        self._record = Template(view.store.record or "{resource}", {"resource": list, "name": names})
        self._urls = [Template(url, in_url) for url in view.purge.urls]
        self._tags = [Template(tag, in_url) for tag in view.purge.tags]

    def of(self, resources: Sequence[str]) -> Effects:
        """The effects of each resource's render."""
        records = [record.encode() for record in self._record.fill(resources)]
        return Effects(records, rows(self._urls, resources), rows(self._tags, resources))


def rows(templates: Sequence[Template], resources: Sequence[str]) -> list[tuple[str, ...]]:
    """For each resource what all the templates make of it."""
    if not templates:
        return [()] * len(resources)
    return list(zip(*[template.fill(resources) for template in templates], strict=True))


class OneEffect(NamedTuple):
    """Where one output goes, and what forgets its predecessor."""

    record: bytes
    urls: tuple[str, ...]
    tags: tuple[str, ...]


def effects_of(view: work_pb2.View, resource: str) -> OneEffect:
    """The same for one resource alone."""
    effects = EffectTemplates(view).of([resource])
    return OneEffect(effects.records[0], effects.urls[0], effects.tags[0])
