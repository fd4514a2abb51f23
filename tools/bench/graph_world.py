"""What the graph bench loads: pages that all depend on one input, a tenth on another, and on parts of a long tail.

Everything is drawn by the seed, a block of pages at a time, so that a block can be made again by itself.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wellspring.propagation.v1 import propagation_pb2

VIEW = "html"
PAGE_PREFIX = "graph/page/"
PROBE_PREFIX = "graph/probe/"
PART_PREFIX = "graph/part/"
LARGEST = "graph/hub/all"
SECOND = "graph/hub/tenth"
HUBS = f"{LARGEST}\0{SECOND}".encode()
SECOND_SHARE = 0.1
_DIGITS = 9
_WIDE = 10 ** np.arange(_DIGITS - 1, -1, -1, dtype=np.int64)

VIEWS = f"""
views:
  - name: {VIEW}
    resource_prefixes: [{PAGE_PREFIX}, {PROBE_PREFIX}]
    render: {{entry_point: {{function: "bench:nothing"}}}}
    store: {{namespace: pages}}
"""


@dataclass(frozen=True, slots=True)
class Sizes:
    """`pages` that depend on something, `edges` in all, `parts` of the long tail: the hubs come besides."""

    pages: int
    edges: int
    parts: int

    @property
    def tail_each(self) -> float:
        """Edges into the tail that a page has, on average."""
        return self.edges / self.pages - 1 - SECOND_SHARE


@dataclass(frozen=True, slots=True)
class Block:
    """Pages `first` and on: the edges of page i are the next counts[i] of `parts`; `second` marks those on SECOND."""

    first: int
    counts: npt.NDArray[np.int64]
    parts: npt.NDArray[np.int64]
    second: npt.NDArray[np.bool_]

    @property
    def edges(self) -> int:
        """All of them, the hubs' too."""
        return len(self.counts) + int(self.second.sum()) + len(self.parts)


def block(sizes: Sizes, seed: int, first: int, count: int) -> Block:
    """The pages first..first + count. A part's popularity falls with the square root of its rank."""
    rng = np.random.default_rng((seed, first))
    whole = int(sizes.tail_each)
    drawn = whole + (rng.random(count) < sizes.tail_each - whole)
    owners = np.repeat(np.arange(count), drawn)
    ranks = (sizes.parts * rng.random(len(owners)) ** 2).astype(np.int64)
    keys = np.sort(owners * sizes.parts + ranks)
    keys = keys[np.concatenate(([True], keys[1:] != keys[:-1]))] if len(keys) else keys
    counts = np.bincount(keys // sizes.parts, minlength=count)
    return Block(first, counts, keys % sizes.parts, rng.random(count) < SECOND_SHARE)


def declaration(pages: Block) -> propagation_pb2.PackedDeclarations:
    """The block's sets as the contract packs them."""
    count = len(pages.counts)
    distinct, places = np.unique(pages.parts, return_inverse=True)
    per_page = pages.counts + 1 + pages.second
    ends = np.cumsum(per_page)
    index = np.empty(int(ends[-1]), "<u4")
    heads = ends - per_page
    index[heads] = 0
    index[heads[pages.second] + 1] = 1
    own = np.ones(len(index), np.bool_)
    own[heads] = False
    own[heads[pages.second] + 1] = False
    index[own] = places + 2
    return propagation_pb2.PackedDeclarations(
        view=VIEW,
        dependents=names(PAGE_PREFIX, np.arange(pages.first, pages.first + count)),
        inputs=HUBS + b"\0" + names(PART_PREFIX, distinct) if len(distinct) else HUBS,
        counts=per_page.astype("<u4").tobytes(),
        input_index=index.tobytes(),
    )


def names(prefix: str, numbers: npt.NDArray[np.int64]) -> bytes:
    """The names of the numbers, joined by NUL."""
    head = np.frombuffer(prefix.encode(), np.uint8)
    rows = np.zeros((len(numbers), len(head) + _DIGITS + 1), np.uint8)
    rows[:, : len(head)] = head
    rows[:, len(head) : -1] = numbers[:, np.newaxis] // _WIDE % 10 + ord("0")
    return rows.tobytes()[:-1]


def part_name(number: int) -> str:
    """The name of a part of the tail."""
    return f"{PART_PREFIX}{number:0{_DIGITS}}"
