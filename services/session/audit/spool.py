"""Reads an audit's files as one chain, line after line, while they are written and moved aside: what is to be sent on.

Whoever writes belongs to another thread or process; only lines that are said to be on disk are read.
"""

import os
from pathlib import Path
from typing import Final

from services.session.audit import chain
from services.session.audit.chain import Place

_CHUNK: Final = 1 << 20
LINES: Final = 1000
"""Read at once; all of them together are below a chunk."""


class NotThere(Exception):
    """The files do not hold the entry that follows: they were removed, or are another chain's."""


class Spool:
    """The files of one audit, read from behind a place. All methods block for the disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None
        self._offset = 0
        self.place = Place()

    def seek(self, place: Place) -> None:
        """Goes on behind `place`. Raises NotThere, OSError."""
        self.close()
        self.place = place
        self._open(self._holding(place.number + 1))
        data = self._chunk()
        if b"\n" not in data:
            if place.number and self._is_last_of_another(place):
                return
            raise NotThere
        first = _entry(data.partition(b"\n")[0])
        if first.number == place.number and first.hash == place.hash:
            return
        self._skip(first, place)

    def begin(self) -> Place:
        """Goes to the oldest entry that there is, and says behind which place that stands. Raises NotThere, OSError."""
        self.close()
        moved = self._moved()
        self._open(self._aside(moved[0]) if moved else self._path)
        line, found, _ = self._chunk().partition(b"\n")
        if not found:
            raise NotThere
        self.place = _entry(line)
        return self.place

    def read(self, up_to: int) -> list[bytes]:
        """The next lines, without their ends, of entries with numbers up to `up_to`; `place` is behind them then.

        Raises NotThere when what follows is not there, OSError.
        """
        wanted = min(up_to - self.place.number, LINES)
        for _ in range(2 if wanted > 0 else 0):  # of this file, or of the one after it
            # Asked before the file is read: what is in a file that is moved aside does not grow.
            live = self._is_live()
            lines = self._chunk().split(b"\n")[:-1][:wanted]
            if lines:
                before = _entry(lines[0])
                if before != self.place:
                    raise NotThere
                self._offset += sum(map(len, lines)) + len(lines)
                for line in lines:
                    self.place = chain.after(self.place, line)
                return lines
            if live:
                return []
            self._open(self._holding(self.place.number + 1))
        return []

    def left_bytes(self) -> int:
        """How much of the files lies behind the place."""
        sizes = [_size(self._aside(number)) for number in self._moved() if number > self.place.number]
        total = sum(sizes) + _size(self._path)
        return max(0, total - self._offset)

    def close(self) -> None:
        """Lets the file go."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _skip(self, first: Place, place: Place) -> None:
        """From the file's first entry, behind `first`, to behind `place`."""
        self.place = first
        while self.place.number < place.number:
            lines = self._chunk().split(b"\n")[:-1][: place.number - self.place.number]
            if not lines:
                raise NotThere
            self._offset += sum(map(len, lines)) + len(lines)
            self.place = chain.after(Place(self.place.number + len(lines) - 1), lines[-1])
        if self.place != place:
            raise NotThere

    def _is_last_of_another(self, place: Place) -> bool:
        """Whether the file moved aside last, before this empty one, ends at the place."""
        moved = self._moved()
        if not moved or moved[-1] != place.number:
            return False
        data = self._aside(moved[-1]).read_bytes()[-_CHUNK:]
        line = data.rstrip(b"\n").rpartition(b"\n")[2]
        return chain.after(Place(place.number - 1), line) == place

    def _holding(self, number: int) -> Path:
        """The file that the entry is in, or comes into."""
        moved = [last for last in self._moved() if last >= number]
        return self._aside(moved[0]) if moved else self._path

    def _moved(self) -> list[int]:
        """Files moved aside, each known by the number of its last entry, sorted."""
        found = (path.suffix[1:] for path in self._path.parent.glob(f"{self._path.name}.*"))
        return sorted(int(suffix) for suffix in found if suffix.isdigit())

    def _aside(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number:012}")

    def _open(self, path: Path) -> None:
        self.close()
        self._file, self._offset = os.open(path, os.O_RDONLY | os.O_CLOEXEC), 0

    def _chunk(self) -> bytes:
        assert self._file is not None
        return os.pread(self._file, _CHUNK, self._offset)

    def _is_live(self) -> bool:
        assert self._file is not None
        try:
            there = self._path.stat()
        except FileNotFoundError:  # just being moved aside
            return False
        mine = os.fstat(self._file)
        return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)


def _entry(line: bytes) -> Place:
    """Behind which place an entry stands."""
    try:
        entry = chain.parse(line)
    except ValueError:
        raise NotThere from None
    return Place(entry["n"] - 1, entry["prev"])


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
