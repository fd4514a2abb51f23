"""What of a reader-supplied attribute or address may reach a browser: a short list; everything else is dropped.

After MediaWiki's Sanitizer. No `on…` handlers, no `data-…` (they are the renderer's own), no address but of a known
scheme, no style that could load or run anything.
"""

from __future__ import annotations

import re

from mwparserfromhell.nodes.extras import Attribute

from examples.wiki.markers import escape, unescape

_ATTRIBUTES_WORDS = (
    "align bgcolor border cellpadding cellspacing class clear colspan datetime dir headers height id lang nowrap "
    "reversed rowspan scope start style title type valign value width"
)
_ATTRIBUTES = frozenset(_ATTRIBUTES_WORDS.split())
_STYLE = re.compile(r"[\w\s:;#%.,()+/!'\"-]*")
_STYLE_DANGER = re.compile(r"url|expression|javascript|behaviou?r|binding|import|/\*|image|attr\s*\(", re.IGNORECASE)
_ADDRESS = re.compile(r"(?:(?:https?|ftps?|ircs?|news):)?//[^\s\"<>]+|(?:mailto|news):[^\s\"<>]+", re.IGNORECASE)


def attributes(given: list[Attribute]) -> str:
    """The harmless ones of a tag's attributes, each once, as ` name="value"` in the order of their names."""
    kept: dict[str, str] = {}
    for attribute in given:
        name = str(attribute.name).strip().lower()
        if name not in _ATTRIBUTES:
            continue
        value = " ".join(unescape(str(attribute.value or "")).split())
        if name == "style" and (not _STYLE.fullmatch(value) or _STYLE_DANGER.search(value)):
            continue
        kept[name] = value
    return "".join(f' {name}="{escape(value)}"' for name, value in sorted(kept.items()))


def attribute(given: list[Attribute], wanted: str) -> str:
    """The value of one attribute, unescaped, "" when it is not there; the last one counts."""
    values = [str(one.value or "") for one in given if str(one.name).strip().lower() == wanted]
    return unescape(values[-1]).strip() if values else ""


def address(text: str) -> str | None:
    """An external address as it may stand in `href` (not yet escaped), None when it is not of a known scheme."""
    plain = unescape(text).strip()
    return plain if _ADDRESS.fullmatch(plain) else None
