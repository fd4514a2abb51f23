"""How far a partition is done when its messages are worked on side by side: never past work that is under way."""


class Watermark:
    """Of one partition. Messages are begun in their order and end in any; `at` is the offset that comes next after all
    that is done from the beginning on."""

    def __init__(self, at: int) -> None:
        self.at = at
        self._open: dict[int, bool] = {}
        self._next = at

    @property
    def waiting(self) -> int:
        """Messages begun that the watermark has not passed."""
        return len(self._open)

    def begin(self, offset: int) -> None:
        """A message is worked on. Raises ValueError when it is not after those before it."""
        if offset < self._next:
            raise ValueError(f"offset {offset} was begun already; the next is {self._next} or later")
        self._open[offset] = False
        self._next = offset + 1

    def end(self, offset: int) -> None:
        """It is done, durably."""
        self._open[offset] = True
        while self._open and self._open[first := next(iter(self._open))]:
            del self._open[first]
            self.at = first + 1

    def nothing_to(self, offset: int) -> None:
        """There is nothing before this offset that has not begun: markers of transactions, and what was compacted."""
        if not self._open and offset > self.at:
            self.at = self._next = offset
