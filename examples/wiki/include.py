"""Which part of a page's text counts: `<noinclude>`, `<includeonly>` and `<onlyinclude>`.

On the page itself `includeonly` parts vanish; when the page is transcluded `noinclude` parts vanish, and if there is
any `onlyinclude` only those parts count. Inside `<nowiki>` and comments the tags mean nothing. A part that is not
closed runs to the end of the text. (https://www.mediawiki.org/wiki/Transclusion)
"""

from __future__ import annotations

import re
from bisect import bisect_right

_SIGN = re.compile(
    r"<!--.*?(?:-->|\Z)|(?P<nowiki><nowiki\s*>)|<(?P<end>/?)(?P<name>noinclude|includeonly|onlyinclude)\s*(?P<empty>/?)>",
    re.IGNORECASE | re.DOTALL,
)
_END_NOWIKI = re.compile(r"</nowiki\s*>", re.IGNORECASE)
_ONLY = re.compile(r"<onlyinclude\s*>", re.IGNORECASE)


def as_page(text: str) -> str:
    """The text as it shows on its own page."""
    return _without(text, "includeonly", None)


def as_template(text: str) -> str:
    """The text as it is transcluded into another page."""
    return _without(text, "noinclude", "onlyinclude" if _ONLY.search(text) else None)


def _without(text: str, dropped: str, wanted: str | None) -> str:
    """The text without its tags and its `dropped` parts; with `wanted`, only what lies inside such parts."""
    kept: list[str] = []
    depth = {"noinclude": 0, "includeonly": 0, "onlyinclude": 0}
    seen_wanted = False
    position = 0

    def keep(piece: str) -> None:
        if piece and depth[dropped] == 0 and (wanted is None or depth[wanted] > 0):
            kept.append(piece)

    # Found once: else each `<nowiki>` without an end costs a search through the whole text.
    nowiki_ends = [match.end() for match in _END_NOWIKI.finditer(text)]
    while sign := _SIGN.search(text, position):
        keep(text[position : sign.start()])
        position = sign.end()
        if sign["nowiki"]:
            at = bisect_right(nowiki_ends, position)
            position = nowiki_ends[at] if at < len(nowiki_ends) else position
        if sign["name"] is None:
            keep(text[sign.start() : position])
        elif not sign["empty"]:
            name = sign["name"].lower()
            seen_wanted = seen_wanted or name == wanted
            # The parts do not nest in themselves: the first closing tag ends the part.
            depth[name] = 0 if sign["end"] else 1
    keep(text[position:])
    if wanted is not None and not seen_wanted:
        return _without(text, dropped, None)
    return "".join(kept)
