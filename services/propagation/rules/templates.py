"""Templates: texts with places that an event fills.

`{{message.a.b}}` stands for a field of the event, `{{match.…}}` for what a condition found, `{{globals.…}}` for the
file's own constants (`globals.message` is the event). A list's member is `a[1]`. Around a field there may be one of
`decode(…)` (percent-encoding undone), `encode(…)`, `date(…)` (an ISO time as HTTP writes it), `default(…, 'text')`. In
addresses `{…}` inserts a field percent-encoded, `{{…}}` as it is.

A template that is nothing but one place keeps the field's type; within a text an absent field is an error: a request
that is built of less than it names is never sent.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from urllib.parse import quote, unquote

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from libs.config import tree
from services.propagation.rules.matching import ABSENT
from services.propagation.rules.reading import Reader

_PLACE = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_ADDRESS_PLACE = re.compile(r"\{\{(.*?)\}\}|\{(.*?)\}", re.DOTALL)
_STEP = re.compile(r"\.?([A-Za-z_$][\w$-]*)|\[(\d{1,4})\]")
_CALL = re.compile(r"(\w+)\((.*)\)", re.DOTALL)
_DEFAULT = re.compile(r"(.*?),\s*(?:'([^']*)'|\"([^\"]*)\")\s*", re.DOTALL)
_ROOTS = ("message", "match", "globals")
_ALLOWED = "message.…, match.… or globals.…, alone or in decode(…), encode(…), date(…), default(…, 'text')"


class TemplateFailed(ValueError):
    """The event has not what the template names; the text says what."""


@dataclass(frozen=True, slots=True)
class Place:
    """One place of a template: `shown` as it is written, `value` gives what stands there (ABSENT: nothing)."""

    shown: str
    value: Callable[[Mapping[str, object]], object]
    encoded: bool = False

    def text(self, context: Mapping[str, object]) -> str:
        """The place as a part of a text. Raises TemplateFailed when there is nothing."""
        value = self.value(context)
        if value is ABSENT or value is None:
            raise TemplateFailed(f"{{{{{self.shown}}}}} is not in the event")
        text = as_text(value)
        return quote(text, safe="") if self.encoded else text


@dataclass(frozen=True, slots=True)
class Template:
    """Texts and places in turn."""

    parts: tuple[str | Place, ...]

    def text(self, context: Mapping[str, object]) -> str:
        """The text. Raises TemplateFailed."""
        return "".join(part if isinstance(part, str) else part.text(context) for part in self.parts)

    def value(self, context: Mapping[str, object]) -> object:
        """The text, or the only place's own value, ABSENT when it is absent. Raises TemplateFailed."""
        if len(self.parts) == 1 and isinstance(self.parts[0], Place):
            return self.parts[0].value(context)
        return self.text(context)


Tree = Callable[[Mapping[str, object]], object]
"""A value with templates inside, filled by a context."""


def compile_text(reader: Reader, node: Node, path: str, *, address: bool = False) -> Template:
    """The template that a text stands for; in an address `{…}` is a place too. Mistakes go to the reader."""
    value = reader.plain(node, path)
    if not isinstance(value, str):
        return Template((as_text(value),))
    parts: list[str | Place] = []
    at = 0
    for found in (_ADDRESS_PLACE if address else _PLACE).finditer(value):
        if found.start() > at:
            parts.append(value[at : found.start()])
        raw, encoded = found[1], False
        if raw is None:
            raw, encoded = found[2], True
        place = _place(reader, node, path, raw.strip(), encoded)
        if place is not None:
            parts.append(place)
        at = found.end()
    rest = value[at:]
    if "{{" in rest or (address and ("{" in rest or "}" in rest)):
        reader.wrong(node, path, f'"{value}" has a brace that is not closed', "{{…}}")
    if rest:
        parts.append(rest)
    return Template(tuple(parts))


def compile_tree(reader: Reader, node: Node, path: str) -> Tree:
    """A value whose texts are templates, at any depth. A member that is only one absent place is left out."""
    if isinstance(node, MappingNode):
        fields = {name: compile_tree(reader, one, f"{path}.{name}") for name, one in reader.entries(node, path).items()}
        return lambda context: {name: value for name, one in fields.items() if (value := one(context)) is not ABSENT}
    if isinstance(node, SequenceNode):
        members = [compile_tree(reader, one, f"{path}[{at}]") for at, one in enumerate(node.value)]
        return lambda context: [value for one in members if (value := one(context)) is not ABSENT]
    if isinstance(node, ScalarNode) and node.tag.endswith(":str"):
        return compile_text(reader, node, path).value
    constant = reader.plain(node, path) if not tree.is_null(node) else None
    return lambda _: constant


def as_text(value: object) -> str:
    """A value inside a text: texts as they are, the rest as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _place(reader: Reader, node: Node, path: str, raw: str, encoded: bool) -> Place | None:
    call = _CALL.fullmatch(raw)
    name, inner = (call[1], call[2].strip()) if call is not None else ("", raw)
    fallback: str | None = None
    if name == "default":
        given = _DEFAULT.fullmatch(inner)
        if given is None:
            reader.wrong(node, path, f"uses {{{{{raw}}}}}", "default(message.field, 'text')")
            return None
        inner, fallback = given[1].strip(), given[2] if given[2] is not None else given[3]
    steps = _steps(inner)
    if steps is None or steps[0] not in _ROOTS or name not in ("", "default", *_FUNCTIONS):
        reader.wrong(node, path, f"uses {{{{{raw}}}}}", f"{_ALLOWED} is allowed")
        return None
    apply = _FUNCTIONS.get(name)

    def value(context: Mapping[str, object]) -> object:
        found = _walk(context, steps)
        if found is ABSENT or found is None:
            return found if fallback is None else fallback
        return apply(as_text(found)) if apply is not None else found

    return Place(raw, value, encoded)


def _steps(raw: str) -> list[str | int] | None:
    steps: list[str | int] = []
    at = 0
    while at < len(raw):
        found = _STEP.match(raw, at)
        if found is None or (at == 0) == (raw[0] == "." or found[1] is None) and at == 0:
            return None
        if at and found[1] is not None and raw[at] != ".":
            return None
        steps.append(found[1] if found[1] is not None else int(found[2]))
        at = found.end()
    return steps or None


def _walk(context: object, steps: list[str | int]) -> object:
    found = context
    for step in steps:
        if isinstance(step, int):
            found = found[step] if isinstance(found, list) and step < len(found) else ABSENT
        elif isinstance(found, Mapping):
            found = found.get(step, ABSENT)
        else:
            return ABSENT
    return found


def _date(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise TemplateFailed(f'"{text[:64]}" is no ISO time') from None
    moment = moment.astimezone(UTC) if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return format_datetime(moment, usegmt=True)


_FUNCTIONS: dict[str, Callable[[str], str]] = {
    "decode": unquote,
    "encode": lambda text: quote(text, safe=""),
    "date": _date,
}
