"""Footnotes: `<ref>` and `<references>` (https://www.mediawiki.org/wiki/Help:Cite).

Numbers are given by first use within a group. A note's text may come after its first use, so that a list of notes is
only written when the page is done.
"""

from __future__ import annotations

from dataclasses import dataclass

from examples.wiki.markers import Markers, escape


@dataclass(slots=True)
class _Note:
    number: int
    content: str | None = None
    uses: int = 0


class References:
    """The notes of one page."""

    def __init__(self, markers: Markers) -> None:
        self._markers = markers
        self._groups: dict[str, list[_Note]] = {}
        self._named: dict[tuple[str, str], _Note] = {}
        self._listed: set[str] = set()

    def define(self, group: str, name: str, content: str) -> None:
        """Give a named note its text; the first text wins, as in MediaWiki."""
        if name:
            note = self._note(group, name)
            note.content = note.content if note.content is not None else content

    def use(self, group: str, name: str, content: str | None) -> str:
        """A note used in the text, `content` None when its text stands elsewhere. Returns the HTML of its number."""
        note = self._note(group, name)
        note.uses += 1
        if content is not None and note.content is None:
            note.content = content
        label = escape(f"{group} {note.number}" if group else str(note.number))
        return f'<sup class="reference"><a href="#{_anchor(group, note.number)}">[{label}]</a></sup>'

    def place(self, group: str) -> str:
        """A list of a group's notes here, as a token. A second list of the same group is left out."""
        if group in self._listed:
            return ""
        self._listed.add(group)
        return self._markers.references(group)

    def place_rest(self) -> str:
        """The lists that the page forgot to ask for."""
        return "\n".join(self.place(group) for group in sorted(self._groups) if group not in self._listed)

    def html(self, group: str) -> str:
        """The list of a group."""
        notes = self._groups.get(group, [])
        if not notes:
            return ""
        items = []
        for note in notes:
            text = note.content
            if text is None:
                text = '<strong class="error">this note is used but nowhere given a text</strong>'
            items.append(f'<li id="{_anchor(group, note.number)}">{text}</li>')
        return '<ol class="references">\n' + "\n".join(items) + "\n</ol>"

    def _note(self, group: str, name: str) -> _Note:
        known = self._named.get((group, name)) if name else None
        if known:
            return known
        notes = self._groups.setdefault(group, [])
        note = _Note(len(notes) + 1)
        notes.append(note)
        if name:
            self._named[group, name] = note
        return note


def _anchor(group: str, number: int) -> str:
    return "cite_note-" + escape("_".join([*group.split(), str(number)]))
