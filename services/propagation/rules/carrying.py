"""CloudEvents 1.0 in the requests of rules (protocol binding for HTTP, version 1.0.2), in binary or structured mode."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from yaml.nodes import Node, ScalarNode

from services.propagation.rules.reading import Reader
from services.propagation.rules.templates import Template, TemplateFailed, compile_text

STRUCTURED: Final = "application/cloudevents"
_VERSION: Final = "1.0"
_TEXT_TAG: Final = "tag:yaml.org,2002:str"
_REQUIRED: Final = ("type", "source")
_DEFAULTS: Final = {"id": "{{message.meta.id}}", "time": "{{default(message.meta.dt, '')}}"}
_NAME_CHARS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_AS_IT_IS: Final = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')
"""In a header; all else is percent-encoded (section 3.1.3.2)."""


def read_cloudevent(reader: Reader, node: Node, path: str) -> dict[str, Template]:
    """The attributes of `cloudevent`: type and source at least; id and time are the event's own unless given."""
    found: dict[str, Template] = {}
    for name, value in reader.entries(node, path).items():
        where = f"{path}.{name}"
        if not name or len(name) > 64 or not _NAME_CHARS.issuperset(name) or name in ("data", "specversion"):
            what = f'"{name}" is no attribute that can be given'
            reader.wrong(value, where, what, "1 to 64 of a-z and 0-9; the body is the data, the version is 1.0")
        else:
            found[name] = compile_text(reader, value, where)
    for name in _REQUIRED:
        if name not in found:
            reader.wrong(node, f"{path}.{name}", "is missing", "a CloudEvent has type and source at least")
    for name, text in _DEFAULTS.items():
        found.setdefault(name, compile_text(reader, ScalarNode(_TEXT_TAG, text, node.start_mark), f"{path}.{name}"))
    return found


def carried(attributes: Mapping[str, str], data: object, headers: dict[str, str]) -> object:
    """What becomes of the body; attributes are added to the headers in binary mode. One that would be empty is left
    out. Raises TemplateFailed for one that is needed."""
    for name in ("id", *_REQUIRED):
        if not attributes[name]:
            raise TemplateFailed(f"the CloudEvent's {name} would be empty")
    attributes = {name: value for name, value in attributes.items() if value}
    if headers.get("content-type", "").startswith(STRUCTURED):
        given = {"datacontenttype": "application/json"} if not isinstance(data, str | None) else {}
        plain: dict[str, object] = {"specversion": _VERSION, **given, **attributes}
        return plain if data is None else {**plain, "data": data}
    content_type = attributes.pop("datacontenttype", "")
    if content_type:
        headers["content-type"] = content_type
    for name, value in {"specversion": _VERSION, **attributes}.items():
        headers[f"ce-{name}"] = quote(value, safe=_AS_IT_IS)
    return data
