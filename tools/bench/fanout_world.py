"""What the fan-out bench is about: pages by number, a seeded half of which depend on one template."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from wellspring.propagation.v1 import propagation_pb2

VIEW = "html"
PAGE_PREFIX = "bench/page/"
NAME_DIGITS = 9
HUB = "bench/template/hub"
OTHER = "bench/template/other"
WIDE = 10 ** np.arange(NAME_DIGITS - 1, -1, -1, dtype=np.int64)
"""What each digit of a page's name stands for."""

VIEWS = f"""
views:
  - name: {VIEW}
    resource_prefixes: [{PAGE_PREFIX}]
    render: {{entry_point: {{function: "bench:nothing"}}}}
    store: {{namespace: pages}}
"""

_DECLARED_AT_ONCE = 50_000


class Bits:
    """A set of numbers below a bound, and how many there are."""

    def __init__(self, bound: int) -> None:
        self._bits = np.zeros(bound, np.bool_)
        self.count = 0

    def add(self, numbers: npt.NDArray[np.int64]) -> int:
        """Adds distinct numbers; answers how many were there before."""
        before = int(self._bits[numbers].sum())
        self._bits[numbers] = True
        self.count += len(numbers) - before
        return before

    def packed(self) -> bytes:
        """A bit each."""
        return np.packbits(self._bits).tobytes()


def choose(dependents: int, seed: int) -> npt.NDArray[np.bool_]:
    """Which of 2 * dependents pages depend on the template: exactly half, by the seed."""
    chosen = np.zeros(2 * dependents, np.bool_)
    chosen[np.random.default_rng(seed).permutation(2 * dependents)[:dependents]] = True
    return chosen


def declarations(chosen: npt.NDArray[np.bool_]) -> Iterator[propagation_pb2.PackedDeclarations]:
    """Each page's dependencies: the chosen ones on HUB, the others on OTHER."""
    inputs = f"{HUB}\0{OTHER}".encode()
    for start in range(0, len(chosen), _DECLARED_AT_ONCE):
        part = chosen[start : start + _DECLARED_AT_ONCE]
        yield propagation_pb2.PackedDeclarations(
            view=VIEW,
            dependents=_names(start, len(part)),
            inputs=inputs,
            counts=np.ones(len(part), "<u4").tobytes(),
            input_index=np.where(part, 0, 1).astype("<u4").tobytes(),
        )


def _names(start: int, count: int) -> bytes:
    """The names of `count` pages from `start` on, joined by NUL."""
    digits = (np.arange(start, start + count)[:, np.newaxis] // WIDE % 10 + ord("0")).astype(np.uint8)
    head = np.frombuffer(PAGE_PREFIX.encode(), np.uint8)
    rows = np.zeros((count, len(head) + NAME_DIGITS + 1), np.uint8)
    rows[:, : len(head)] = head
    rows[:, len(head) : -1] = digits
    return rows.tobytes()[:-1]
