"""Builds blocks out of lines: paragraphs, nested lists, preformatted text, and ready-made blocks between them.

Knows nothing of wikitext beyond the list characters `*#:;`. Every element that it opens it closes, so that its result
is always well-formed when the pieces that it is given are.
"""

from __future__ import annotations

_LISTS = {"*": ("ul", "li"), "#": ("ol", "li"), ":": ("dl", "dd"), ";": ("dl", "dt")}
MAX_LIST_DEPTH = 30
"""Levels of nested lists; further list characters are dropped, as browsers stop nesting usefully long before."""


class Blocks:
    """One flow of blocks: the page, a table cell, a list item of HTML."""

    def __init__(self) -> None:
        self._out: list[str] = []
        self._paragraph: list[str] = []
        self._preformatted: list[str] = []
        self._items: list[str] = []
        self._unwrappable = True

    def text(self, html: str) -> None:
        """A line of running text."""
        self._end_preformatted()
        self._end_lists(0)
        self._paragraph.append(html.strip())

    def nothing(self, marks: str = "") -> None:
        """A line without anything to see, which ends whatever was going on; `marks` are tokens to keep."""
        if marks or self._paragraph or self._preformatted or self._items:
            self._end_all()
        if marks:
            self._out.append(marks)

    def preformatted(self, html: str) -> None:
        """A line that began with a blank."""
        self._end_paragraph()
        self._end_lists(0)
        self._preformatted.append(html)

    def item(self, prefix: str, html: str) -> None:
        """A line of a list; `prefix` is its list characters, outermost first."""
        self._end_paragraph()
        self._end_preformatted()
        self._unwrappable = False
        prefix = prefix[:MAX_LIST_DEPTH]
        common = 0
        while common < min(len(prefix), len(self._items)):
            if _LISTS[prefix[common]][0] != _LISTS[self._items[common]][0]:
                break
            common += 1
        self._end_lists(common)
        if common == len(prefix):
            opened = _LISTS[prefix[-1]][1]
            self._out.append(f"</{_LISTS[self._items[-1]][1]}>\n<{opened}>")
            self._items[-1] = prefix[-1]
        for char in prefix[common:]:
            self._out.append("\n<{}>\n<{}>".format(*_LISTS[char]))
            self._items.append(char)
        self._out.append(html.strip())

    def block(self, html: str) -> None:
        """A ready-made block."""
        self._end_all()
        self._unwrappable = False
        self._out.append(html)

    def finish(self, *, unwrap: bool = False) -> str:
        """The HTML. With `unwrap` a flow of a single paragraph comes without its `<p>`, as in a table cell."""
        if unwrap and self._unwrappable and not self._preformatted:
            return "".join(self._out) + "\n".join(self._paragraph)
        self._end_all()
        return "".join(self._out).strip("\n")

    def _end_all(self) -> None:
        self._end_paragraph()
        self._end_preformatted()
        self._end_lists(0)

    def _end_paragraph(self) -> None:
        if self._paragraph:
            self._unwrappable = False
            self._out.append("\n<p>" + "\n".join(self._paragraph) + "</p>\n")
            self._paragraph.clear()

    def _end_preformatted(self) -> None:
        if self._preformatted:
            self._unwrappable = False
            self._out.append("\n<pre>" + "\n".join(self._preformatted) + "</pre>\n")
            self._preformatted.clear()

    def _end_lists(self, keep: int) -> None:
        while len(self._items) > keep:
            list_tag, item_tag = _LISTS[self._items.pop()]
            self._out.append(f"</{item_tag}>\n</{list_tag}>\n")
