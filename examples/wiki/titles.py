"""MediaWiki titles: how `[[ cite_web#x ]]` and `{{subst:cite web}}` become names of stored resources.

The rules are those of MediaWiki's title parser as far as this example needs them
(https://www.mediawiki.org/wiki/Manual:Page_title): underscores and spaces are the same, runs of them are one, the first
letter is a capital, a namespace is a known word before a colon in any case of letters, a title has at most 255 bytes.

A page is stored as `<site>/page/<Title_with_underscores>`, so that its name can stand in a URL path and on a command
line as it is. `site` is the database name of the export (`enwiki`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote

from examples.wiki.markers import unescape

MAX_TITLE_BYTES = 255
MAX_RESOURCE_BYTES = 1024

MAIN, FILE, TEMPLATE, CATEGORY = "", "File", "Template", "Category"

_CANONICAL = {
    -2: "Media", -1: "Special", 0: "", 1: "Talk", 2: "User", 3: "User talk", 4: "Wikipedia", 5: "Wikipedia talk",
    6: "File", 7: "File talk", 8: "MediaWiki", 9: "MediaWiki talk", 10: "Template", 11: "Template talk", 12: "Help",
    13: "Help talk", 14: "Category", 15: "Category talk", 100: "Portal", 101: "Portal talk", 108: "Book",
    109: "Book talk", 118: "Draft", 119: "Draft talk", 828: "Module", 829: "Module talk",
}  # fmt: skip
_ALIASES = {"image": "File", "image talk": "File talk", "project": "Wikipedia", "wp": "Wikipedia"}
_NAMESPACES = {name.lower(): name for name in _CANONICAL.values() if name} | _ALIASES
_NUMBERS = {name: number for number, name in _CANONICAL.items()}

# Prefixes that lead out of the wiki: sister projects, then the languages most often linked. The full interwiki map is
# a table of each site's database; an unknown prefix is simply part of a title, as on a wiki that lacks the row.
_INTERWIKI_WORDS = (
    "b c commons d m mw n q s species v voy w wikt meta wikibooks wikidata wikinews wikipedia wikiquote wikisource "
    "wikispecies wikiversity wikivoyage wiktionary ar bg ca cs da de el en eo es et eu fa fi fr gl he hi hr hu id "
    "it ja ko lt lv ms nl nn no pl pt ro ru sh simple sk sl sr sv th tr uk vi zh"
)
_INTERWIKI = frozenset(_INTERWIKI_WORDS.split())
_ILLEGAL = re.compile(r"[<>\[\]{}|\x00-\x1f\x7f]|~~~|%[0-9A-Fa-f]{2}|&(?:#\d+|#x[0-9A-Fa-f]+|\w+);")
_BLANK = re.compile(r"[\s_\u00a0\u1680\u180e\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")
_DIRECTION = re.compile("[\u200e\u200f\u202a-\u202e]")
_SUBST = re.compile(r"\s*(?:safesubst|subst|msgnw|msg|raw)\s*:\s*", re.IGNORECASE)


class InvalidTitle(ValueError):
    """The text is not a title. The message says why."""


@dataclass(frozen=True, slots=True)
class Title:
    """A normalised title: `namespace` by its canonical English name ("" for articles), `name` with spaces."""

    namespace: str
    name: str
    fragment: str = ""
    interwiki: str = ""

    @property
    def full(self) -> str:
        """The title as people write it: `Template:Cite web`."""
        return f"{self.namespace}:{self.name}" if self.namespace else self.name

    @property
    def key(self) -> str:
        """The title as it is stored: `Template:Cite_web`."""
        return self.full.replace(" ", "_")

    @property
    def number(self) -> int:
        """The number of the namespace, as in an export's `<ns>`."""
        return _NUMBERS[self.namespace]


def parse(text: str, default: str = MAIN) -> Title:
    """Read a title as written in a link (entities allowed, a leading colon ignored).

    `default` is the namespace of a title without one, also of one with a single leading colon when it is `MAIN`; for
    `{{…}}` pass `TEMPLATE`, where the leading colon means an article. Raises InvalidTitle.
    """
    plain = _BLANK.sub(" ", _DIRECTION.sub("", unescape(text))).strip(" ")
    if plain.startswith(":"):
        plain, default = plain[1:].lstrip(" "), MAIN
    plain, _, fragment = plain.partition("#")
    plain, fragment = plain.rstrip(" "), fragment.strip(" ")
    namespace, interwiki = default, ""
    prefix, colon, rest = plain.partition(":")
    if colon:
        word = prefix.strip(" ").lower()
        if word in _NAMESPACES:
            namespace, plain = _NAMESPACES[word], rest.strip(" ")
        elif word in _INTERWIKI and rest.strip(" "):
            namespace, interwiki, plain = MAIN, word, rest.strip(" ")
    _check(plain, allow_empty=bool(fragment) and not colon and default == MAIN)
    return Title(namespace, plain if interwiki else plain[:1].upper() + plain[1:], fragment, interwiki)


def parse_template(text: str) -> Title:
    """Read the name of a `{{…}}`: `subst:` and its kind are dropped, a bare name is a template. Raises InvalidTitle."""
    return parse(_SUBST.sub("", text, count=1) if _SUBST.match(text) else text, TEMPLATE)


def _check(name: str, *, allow_empty: bool) -> None:
    if not name:
        if allow_empty:
            return
        raise InvalidTitle("a title may not be empty")
    if bad := _ILLEGAL.search(name):
        raise InvalidTitle(f"a title may not hold {bad[0]!r}")
    if (
        name in {".", ".."}
        or name.startswith(("./", "../"))
        or name.endswith(("/.", "/.."))
        or "/./" in name
        or "/../" in name
    ):
        raise InvalidTitle("a title may not hold a relative path")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise InvalidTitle("a title must be valid Unicode, without lone surrogates") from None
    if size > MAX_TITLE_BYTES:
        raise InvalidTitle(f"a title has at most {MAX_TITLE_BYTES} bytes, this one has {size}")


def namespace_name(number: int) -> str | None:
    """The canonical name of a namespace number ("" for articles), None for one this example does not know."""
    return _CANONICAL.get(number)


def resource(title: Title, site: str) -> str:
    """The resource that holds a page: `enwiki/page/Template:Cite_web`. Raises InvalidTitle past 1 KiB or a bad site."""
    if not re.fullmatch(r"[a-z0-9_-]{1,64}", site):
        raise InvalidTitle(f"a site is 1 to 64 of a-z, 0-9, _ and -, not {site!r}")
    name = f"{site}/page/{title.key}"
    if len(name.encode()) > MAX_RESOURCE_BYTES:
        raise InvalidTitle(f"a resource name has at most {MAX_RESOURCE_BYTES} bytes")
    return name


def parse_resource(name: str) -> tuple[str, Title]:
    """The site and title of a resource name. Raises InvalidTitle when it is not `<site>/page/<title>`, normalised."""
    site, _, rest = name.partition("/")
    kind, _, text = rest.partition("/")
    if kind != "page" or not text:
        raise InvalidTitle(f"{name!r} is not of the form site/page/Title")
    title = parse(text)
    if title.interwiki or title.fragment or resource(title, site) != name:
        raise InvalidTitle(f"{name!r} is not a normalised name; write {site}/page/{title.key}")
    return site, title


def href(name: str, fragment: str = "") -> str:
    """The path of a resource on the reader's side, percent-encoded, from the root of the gateway: `/enwiki/page/…`."""
    anchor = "#" + quote(fragment.replace(" ", "_"), safe=":/()!,*'") if fragment else ""
    return "/" + quote(name, safe="/:()!,*'~@$+;=") + anchor
