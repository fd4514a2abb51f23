"""What other data centres rendered and the store here may not have yet, and how far that has been seen to."""

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Rendered(NamedTuple):
    """A page as its home has it: rendered at a version (16 bytes), or gone since."""

    view: str
    resource: str
    version: bytes
    gone: bool


class Position(NamedTuple):
    """Up to where the home was heard: its token, and the views whose pages were all told by then."""

    token: str = ""
    views: frozenset[str] = frozenset()


class Awaited:
    """Of one home. News may come repeatedly and in any order: of each page the newest counts."""

    def __init__(self, position: Position) -> None:
        self.position = position
        """All that was told up to it has been taken."""
        self._pages: dict[tuple[str, str], tuple[Rendered, int]] = {}
        self._told: deque[tuple[int, Position]] = deque()
        self._open: Counter[int] = Counter()
        self._last = 0

    def __len__(self) -> int:
        return len(self._pages)

    def add(self, pages: Iterable[Rendered], position: Position) -> None:
        """They were told, and with them the home is heard up to the position."""
        self._last += 1
        self._told.append((self._last, position))
        for page in pages:
            key = page.view, page.resource
            known = self._pages.get(key)
            if known is not None:
                if known[0].version >= page.version:
                    continue
                self._open[known[1]] -= 1
            self._pages[key] = page, self._last
            self._open[self._last] += 1
        self._move()

    def pages(self) -> list[Rendered]:
        """All that is awaited, the longest first."""
        return [page for page, _ in self._pages.values()]

    def done(self, pages: Sequence[Rendered]) -> None:
        """They were taken; of those that were rendered again meanwhile the newer is awaited still."""
        for page in pages:
            key = page.view, page.resource
            known = self._pages.get(key)
            if known is not None and known[0] == page:
                del self._pages[key]
                self._open[known[1]] -= 1
        self._move()

    def _move(self) -> None:
        while self._told and not self._open[self._told[0][0]]:
            number, self.position = self._told.popleft()
            del self._open[number]
