"""Names: which texts may name a resource, an aspect, a view, a lane and a change, and how an output is named.

The limits are those of the contract (protos/wellspring/propagation/v1/propagation.proto).
"""

import re
from collections.abc import Sequence

import numpy as np

from services.propagation.domain.errors import AspectInvalid, ChangeIdInvalid, ResourceInvalid

CONTENT = "content"
EXISTENCE = "existence"
OUTPUT_PREFIX = "view/"

MAX_RESOURCE_BYTES = 1024
MAX_CHANGE_ID_BYTES = 256
MAX_ASPECTS = 16

_WORD = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_CONTROL_BYTES = re.compile(rb"[\x01-\x1f\x7f]|\xc2[\x80-\x9f]")
_PLAIN = bytes([0, *range(0x20, 0x7F)])
WORD_RULE = "1 to 64 of a-z, 0-9, '-' and '_', beginning with a letter, are allowed"
RESOURCE_RULE = "1 to 1,024 bytes of UTF-8 without control characters are allowed"


def is_word(text: str) -> bool:
    """Whether the text may name an aspect, a view or a lane."""
    return _WORD.fullmatch(text) is not None


def resource_problem(name: str) -> str | None:
    """What forbids the name as a resource's, or None."""
    if not name:
        return f"is empty; {RESOURCE_RULE}"
    if _CONTROL.search(name):
        return f"holds a control character; {RESOURCE_RULE}"
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return f"is not UTF-8; {RESOURCE_RULE}"
    if size > MAX_RESOURCE_BYTES:
        return f"is {size:,} bytes long; {RESOURCE_RULE}"
    return None


def check_resource(name: str, path: str) -> bytes:
    """The name as bytes. Raises ResourceInvalid that names the field `path`."""
    problem = resource_problem(name)
    if problem is not None:
        raise ResourceInvalid.field(path, problem)
    return name.encode()


def check_source(name: str, path: str) -> bytes:
    """As check_resource, for a resource that something outside the engine changes: an output is not one."""
    encoded = check_resource(name, path)
    if name.startswith(OUTPUT_PREFIX):
        raise ResourceInvalid.field(path, "is a view's output, which changes only when the view renders it")
    return encoded


def check_aspects(aspects: Sequence[str], path: str) -> tuple[str, ...]:
    """The aspects without doubles, in order; none means content. Raises AspectInvalid."""
    if len(aspects) > MAX_ASPECTS:
        raise AspectInvalid.field(path, f"names {len(aspects)} aspects; at most {MAX_ASPECTS} are allowed")
    for index, aspect in enumerate(aspects):
        check_aspect(aspect, f"{path}[{index}]")
    return tuple(dict.fromkeys(aspects)) or (CONTENT,)


def check_aspect(aspect: str, path: str) -> str:
    """The aspect; the empty one is content. Raises AspectInvalid."""
    if aspect and not is_word(aspect):
        raise AspectInvalid.field(path, f"is no aspect; {WORD_RULE}")
    return aspect or CONTENT


def check_change_id(change_id: str, path: str) -> str:
    """The id of a change. Raises ChangeIdInvalid."""
    size = len(change_id.encode(errors="replace"))
    if not 1 <= size <= MAX_CHANGE_ID_BYTES or _CONTROL.search(change_id):
        raise ChangeIdInvalid.field(path, f"1 to {MAX_CHANGE_ID_BYTES} bytes without control characters are allowed")
    return change_id


def split_names(packed: bytes, path: str) -> list[bytes]:
    """The names joined by NUL in `packed`, each checked; none for no bytes at all. Raises ResourceInvalid."""
    if not packed:
        return []
    try:
        packed.decode()
    except UnicodeDecodeError as error:
        raise ResourceInvalid.field(path, f"is not UTF-8 at byte {error.start}") from None
    # What is left without all plain bytes is nothing for most texts: eight times as fast as the search.
    bad = _CONTROL_BYTES.search(packed) if packed.translate(None, _PLAIN) else None
    if bad is not None:
        index = packed.count(b"\0", 0, bad.start())
        raise ResourceInvalid.field(f"{path}[{index}]", f"holds a control character; {RESOURCE_RULE}")
    ends = np.flatnonzero(np.frombuffer(packed, np.uint8) == 0)
    sizes = np.diff(ends, prepend=-1, append=len(packed)) - 1
    if sizes.min() < 1 or sizes.max() > MAX_RESOURCE_BYTES:
        index = int(np.flatnonzero((sizes < 1) | (sizes > MAX_RESOURCE_BYTES))[0])
        raise ResourceInvalid.field(f"{path}[{index}]", f"is {int(sizes[index]):,} bytes long; {RESOURCE_RULE}")
    return packed.split(b"\0")


def output_name(view: str, resource: str) -> str:
    """The resource that the view makes of `resource`."""
    return f"{OUTPUT_PREFIX}{view}/{resource}"


def output_parts(name: str) -> tuple[str, str] | None:
    """(view, resource) of an output's name, None for any other."""
    if not name.startswith(OUTPUT_PREFIX):
        return None
    view, slash, resource = name[len(OUTPUT_PREFIX) :].partition("/")
    return (view, resource) if slash and view and resource else None
