"""Parser functions and variables: `{{#if:…}}`, `{{lc:…}}`, `{{PAGENAME}}` (https://www.mediawiki.org/wiki/Help:Magic_words).

A table from name to a small function. Those that a renderer cannot answer from the text alone (the time, counts of
the whole site, Lua) are named too, so that they show as a visible placeholder and are not mistaken for templates.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol
from urllib.parse import quote_plus

from examples.wiki import titles
from examples.wiki.markers import strip, unescape, visible
from examples.wiki.preprocess import Part


class Scope(Protocol):
    """What a function may ask of the call that it stands in."""

    @property
    def page(self) -> titles.Title:
        """The page that is being rendered."""
        ...

    def text(self, part: Part) -> str:
        """A part expanded, its `=` included."""
        ...

    def split(self, part: Part) -> tuple[str | None, str]:
        """A part expanded as name and value; name None without `=`."""
        ...

    def exists(self, title: titles.Title) -> bool:
        """Whether a page exists; recorded as a dependency on its existence."""
        ...

    def tag(self, name: str, content: str, attributes: str) -> str:
        """An extension tag, as if it stood in the text."""
        ...


Function = Callable[[Scope, str, list[Part]], str]


def _if(scope: Scope, condition: str, parts: list[Part]) -> str:
    return _branch(scope, bool(visible(condition).strip()), parts)


def _branch(scope: Scope, condition: bool, parts: list[Part]) -> str:
    chosen = 0 if condition else 1
    return scope.text(parts[chosen]).strip() if chosen < len(parts) else ""


def _same(left: str, right: str) -> bool:
    """Equal as numbers when both are numbers, else as text."""
    left, right = visible(left).strip(), visible(right).strip()
    if left == right:
        return True
    number = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
    return bool(number.fullmatch(left) and number.fullmatch(right)) and float(left) == float(right)


def _ifeq(scope: Scope, left: str, parts: list[Part]) -> str:
    right = scope.text(parts[0]) if parts else ""
    return _branch(scope, _same(left, right), parts[1:])


def _ifexist(scope: Scope, name: str, parts: list[Part]) -> str:
    try:
        found = scope.exists(titles.parse(strip(name)))
    except titles.InvalidTitle:
        found = False
    return _branch(scope, found, parts)


def _switch(scope: Scope, subject: str, parts: list[Part]) -> str:
    default, matched, last = "", False, len(parts) - 1
    for number, part in enumerate(parts):
        if part.name is None:
            case = scope.text(part)
            if number == last:
                return case.strip()
            matched = matched or _same(subject, case)
            continue
        name, value = scope.split(part)
        if matched or _same(subject, name or ""):
            return value.strip()
        if visible(name or "").strip() == "#default":
            default = value.strip()
    return default


def _tag(scope: Scope, name: str, parts: list[Part]) -> str:
    content = scope.text(parts[0]) if parts else ""
    attributes = []
    for part in parts[1:]:
        key, value = scope.split(part)
        key = strip(key or "").strip()
        if re.fullmatch(r"[A-Za-z][\w-]*", key):
            quoted = unescape(value).strip().strip("\"'").replace('"', "").replace("<", "").replace(">", "")
            attributes.append(f' {key}="{quoted}"')
    return scope.tag(strip(name).strip().lower(), content, "".join(attributes))


def _formatnum(_: Scope, number: str, parts: list[Part]) -> str:
    """Thousands separated by commas; anything that is not a plain number passes unchanged."""
    plain = visible(number).strip()
    match = re.fullmatch(r"([+-]?)(\d{1,300})(\.\d*)?", plain, re.ASCII)
    if not match or parts:
        return plain
    return f"{match[1]}{int(match[2]):,}{match[3] or ''}"


def _ns(_: Scope, name: str, parts: list[Part]) -> str:
    word = strip(name).strip()
    if re.fullmatch(r"-?\d{1,4}", word, re.ASCII):
        return titles.namespace_name(int(word)) or ""
    try:
        return titles.parse(f"{word}:x").namespace
    except titles.InvalidTitle:
        return ""


def _cased(change: Callable[[str], str]) -> Function:
    def function(_: Scope, text: str, parts: list[Part]) -> str:
        return change(visible(text).strip())

    return function


def _outside_tokens(change: Callable[[str], str]) -> Callable[[str], str]:
    """A change of letters that leaves tokens as they are: their kinds are letters too."""
    return lambda text: "".join(
        piece if number % 2 else change(piece) for number, piece in enumerate(re.split("(\x7f[A-Z][0-9]+\x7f)", text))
    )


def _nothing(_: Scope, text: str, parts: list[Part]) -> str:
    return ""


FUNCTIONS: dict[str, Function] = {
    "#if": _if,
    "#ifeq": _ifeq,
    "#ifexist": _ifexist,
    "#switch": _switch,
    "#tag": _tag,
    "formatnum": _formatnum,
    "ns": _ns,
    "lc": _cased(_outside_tokens(str.lower)),
    "uc": _cased(_outside_tokens(str.upper)),
    "lcfirst": _cased(lambda text: text[:1].lower() + text[1:]),
    "ucfirst": _cased(lambda text: text[:1].upper() + text[1:]),
    "urlencode": _cased(lambda text: quote_plus(strip(text))),
    "defaultsort": _nothing,
    "defaultsortkey": _nothing,
    "defaultcategorysort": _nothing,
    "displaytitle": _nothing,
}
"""By lower-case name: (scope, text after the colon, further parts) -> wikitext."""

_UNSUPPORTED_FUNCTIONS_WORDS = (
    "int plural grammar gender padleft padright fullurl localurl canonicalurl filepath anchorencode special bidi "
    "protectionlevel pagesincategory pagesize numberingroup language"
)
UNSUPPORTED_FUNCTIONS = frozenset(_UNSUPPORTED_FUNCTIONS_WORDS.split())
"""Functions without `#` that this renderer does not answer; those with `#` need no list."""

VARIABLES: dict[str, Callable[[titles.Title], str]] = {
    "!": lambda _: "|",
    "=": lambda _: "=",
    "PAGENAME": lambda page: page.name,
    "FULLPAGENAME": lambda page: page.full,
    "NAMESPACE": lambda page: page.namespace,
    "NAMESPACENUMBER": lambda page: str(page.number),
    "BASEPAGENAME": lambda page: page.name.rpartition("/")[0] or page.name,
    "SUBPAGENAME": lambda page: page.name.rpartition("/")[2] or page.name,
    "PAGENAMEE": lambda page: page.name.replace(" ", "_"),
    "FULLPAGENAMEE": lambda page: page.key,
}
"""By exact name: the page being rendered -> wikitext."""

UNSUPPORTED_VARIABLES = re.compile(
    r"(?:CURRENT|LOCAL)(?:YEAR|MONTH|MONTH1|MONTHNAME|MONTHNAMEGEN|MONTHABBREV|DAY|DAY2|DOW|DAYNAME|TIME|HOUR|WEEK|"
    r"TIMESTAMP)|NUMBEROF[A-Z]+|REVISION[A-Z0-9]+|SITENAME|SERVER|SERVERNAME|SCRIPTPATH|CONTENTLANGUAGE|"
    r"(?:TALK|SUBJECT|ARTICLE|ROOT)(?:PAGENAME|SPACE)E?|CURRENTVERSION|PAGEID"
)
"""Variables whose value is not in the text: the time, the site, the revision."""
