"""The demo's judge: reads the export and the served bytes by itself, and asks no service and no renderer.

It shares no code with the example renderer. Where that expands calls with a scanner of its own, this one looks at the
wikitext with regular expressions: every `{{` that is followed by a name and by `|` or `}}` is a use of a template,
wherever it stands (inside other calls, notes, tables), except in comments and in tags whose content is not wikitext.

What it counts in the sample (`enwiki-latest-pages-articles1…-shortened.bz2` of gensim 4.4.0):

- 206 pages, 100 of them redirects.
- `Cite web` is the most used template: 1,943 calls on 87 pages, the 87 that a full MediaWiki counts. (`Reflist` stands
  on more pages, 98, but is called only 113 times.)
- 953 distinct templates. A count of 966 comes out when one takes every lower-cased word after `{{` (see
  `words_after_braces`): that has the magic words, parser functions and articles that are not templates (`!`,
  `DEFAULTSORT`, `:History of agriculture`), and names inside comments, but takes `OCLC` and `Oclc` for one.
"""

from __future__ import annotations

import bz2
import gzip
import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from defusedxml.ElementTree import iterparse

_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_NOT_WIKITEXT = re.compile(
    r"<(nowiki|pre|math|chem|source|syntaxhighlight|timeline|score|hiero|graph|imagemap|inputbox|maplink|mapframe|"
    r"templatedata)\b[^<>]*(?<!/)>.*?</\1\s*>",
    re.DOTALL | re.IGNORECASE,
)
_USE = re.compile(r"(?<!\{)\{\{(?!\{)\s*([^{}|\[\]<>#]+?)\s*(?=\||\}\})")
_FUNCTION = re.compile(
    r"(?:defaultsort|defaultsortkey|defaultcategorysort|displaytitle|formatnum|lc|uc|lcfirst|ucfirst|urlencode|ns|int|"
    r"plural|grammar|gender|padleft|padright|fullurl|localurl|anchorencode)\s*:",
    re.IGNORECASE,
)
_VARIABLE = re.compile(
    r"[!=]|(?:CURRENT|LOCAL|NUMBEROF|REVISION)[A-Z0-9]+|[A-Z]*PAGENAMEE?|NAMESPACE[A-Z]*|SITENAME|SERVER"
)
_SUBST = re.compile(r"(?:safesubst|subst|msg|raw)\s*:\s*", re.IGNORECASE)
_OTHER_SPACE = re.compile(
    r"(?:talk|user|wikipedia|project|wp|file|image|mediawiki|help|category|portal|book|draft|module|special|media)"
    r"(?:[ _]talk)?\s*:",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Census:
    """What an export says of its templates: calls by template, and the pages that call each in their own text."""

    titles: tuple[str, ...]
    calls: Mapping[str, int]
    users: Mapping[str, frozenset[str]]

    @property
    def most_used(self) -> str:
        """The template with the most calls (the first by name of several). Raises ValueError when there is none."""
        if not self.calls:
            raise ValueError("no page of the export calls a template")
        return min(self.calls, key=lambda name: (-self.calls[name], name))

    def dependents(self, template: str) -> frozenset[str]:
        """The titles of the pages whose text calls a template."""
        return self.users.get(template, frozenset())


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of the pages after an edit; titles, sorted.

    `stale`: depends on the template and is served without the marker. `lost`: was served before or depends, and is not
    served now. `touched`: does not depend, and is served with other bytes than before (or was not served before).
    """

    stale: list[str]
    lost: list[str]
    touched: list[str]

    @property
    def ok(self) -> bool:
        return not (self.stale or self.lost or self.touched)


def read_export(path: Path) -> dict[str, str]:
    """Title -> wikitext of every page of an export (.xml, .bz2 or .gz). Of several revisions the last one counts.

    Raises ValueError for a file that is not an export, and what the XML parser and decompressors raise.
    """
    pages: dict[str, str] = {}
    with _open(path) as file:
        title, text = "", ""
        for _, element in iterparse(file, events=("end",), forbid_dtd=True):
            kind = element.tag.rpartition("}")[2]
            if kind == "title":
                title = (element.text or "").strip()
            elif kind == "text":
                text = element.text or ""
            elif kind == "page":
                pages[title] = text
                title, text = "", ""
                element.clear()
    if not pages:
        raise ValueError(f"{path} holds no page")
    return pages


def template_calls(text: str) -> Counter[str]:
    """How often a wikitext calls each template, by normalised name (`cite_web` is `Cite web`)."""
    calls: Counter[str] = Counter()
    for match in _USE.finditer(_NOT_WIKITEXT.sub("", _COMMENT.sub("", text))):
        if name := _template(match[1]):
            calls[name] += 1
    return calls


def census(pages: Mapping[str, str]) -> Census:
    """Count the template calls of all pages (title -> wikitext)."""
    calls: Counter[str] = Counter()
    users: dict[str, set[str]] = {}
    for title, text in pages.items():
        for name, count in template_calls(text).items():
            calls[name] += count
            users.setdefault(name, set()).add(title)
    return Census(tuple(pages), dict(calls), {name: frozenset(titles) for name, titles in users.items()})


def words_after_braces(pages: Mapping[str, str]) -> frozenset[str]:
    """The rough count: every lower-cased word after `{{` on a line, whatever it is and wherever it stands."""
    found = (match[1] for text in pages.values() for match in re.finditer(r"\{\{([^{}|:#<\n]+)", text))
    return frozenset(word.strip().lower() for word in found)


def verify(
    before: Mapping[str, bytes], after: Mapping[str, bytes], dependents: Collection[str], marker: bytes
) -> Verdict:
    """Judge an edit by the bytes served before and after it (title -> body).

    `marker` is a text that the edit brought in. Raises ValueError when it proves nothing: empty, or already served.
    """
    if not marker:
        raise ValueError("the marker may not be empty: every page holds the empty text")
    if seen := sorted(title for title, body in before.items() if marker in body):
        raise ValueError(f"the marker was served before the edit, by {seen[0]!r}: choose one that is in no page")
    depends = set(dependents)
    served_once = depends | before.keys()
    return Verdict(
        stale=sorted(title for title in depends & after.keys() if marker not in after[title]),
        lost=sorted(served_once - after.keys()),
        touched=sorted(title for title in after.keys() - depends if before.get(title) != after[title]),
    )


def _open(path: Path) -> IO[bytes]:
    if path.suffix == ".bz2":
        return bz2.open(path)
    return cast(IO[bytes], gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def _template(written: str) -> str:
    """The normalised name of a template, "" for what is not one."""
    name = re.sub(r"[\s_]+", " ", written).strip()
    name = _SUBST.sub("", name, count=1) if _SUBST.match(name) else name
    if name.lower().startswith("template:"):
        name = name[len("template:") :].strip()
    elif name.startswith((":", "/")) or _FUNCTION.match(name) or _OTHER_SPACE.match(name) or _VARIABLE.fullmatch(name):
        return ""
    return name[:1].upper() + name[1:]
