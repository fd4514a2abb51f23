"""Which resources readers ask for most: they go first within a pass, and tell how many reads are fresh.

Counts are kept for a bounded number of resources a view and fade by half when there are too many.
"""

from pyroaring import BitMap

_MOST = 20_000
"""Resources counted a view; about 2 MB."""


class Heat:
    """Reads by view and resource, and the totals."""

    def __init__(self) -> None:
        self._counts: dict[int, dict[int, int]] = {}
        self.reads = 0
        self.fresh = 0

    def report(self, view: int, resources: list[int], reads: list[int], fresh: int) -> None:
        """Counts reads of resources; `fresh` of them showed the newest version."""
        counts = self._counts.setdefault(view, {})
        for resource, count in zip(resources, reads, strict=True):
            counts[resource] = counts.get(resource, 0) + count
        self.reads += sum(reads)
        self.fresh += fresh
        while len(counts) > _MOST:
            counts = {resource: count // 2 for resource, count in counts.items() if count > 1}
            self._counts[view] = counts

    def hot(self, view: int) -> BitMap:
        """The resources that were read lately."""
        counts = self._counts.get(view)
        return BitMap(list(counts)) if counts else BitMap()
