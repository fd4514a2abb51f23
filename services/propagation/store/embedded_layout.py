"""What lies where in the embedded store: its families, its keys, its limits. Numbers in keys are big-endian, to sort.

| family | key | value |
|---|---|---|
| meta | a word | counters; view/<name> and aspect/<name> → number |
| names | name | resource number |
| name_blocks | number >> 7 | 128 names, joined by NUL; empty where a number was never used |
| inputs | resource, aspect | input number |
| columns | column, view, number >> bits | a block of fixed-width values (embedded_columns.py) |
| forward | view, dependent >> 5 | the sets of 32 dependents (set_blocks.py) |
| reverse | "s", input >> 5, view | the dependents of 32 inputs, but for hubs (set_blocks.py) |
| reverse | "h", input, view, dependent >> 22 | a part of a hub's dependents (hub_sets.py) |
| arrivals | "a", commit, view | edges that came or went in one commit, by input and dependent (embedded_recent.py) |
| arrivals | as reverse but input >> 7, and commit | such edges by input, not yet folded into `reverse` |
| records | kind, NUL, key | a record of the engine |
"""

from libs.embedded.settings import Compression, FamilySpec
from libs.errors.errors import ResourceExhausted

SCHEMA = "propagation"
VERSION = 2

FAMILIES = (
    FamilySpec("meta"),
    FamilySpec("names"),
    FamilySpec("name_blocks", bloom_bits=0),
    FamilySpec("inputs"),
    FamilySpec("columns"),
    FamilySpec("forward"),
    FamilySpec("reverse"),
    FamilySpec("arrivals", bloom_bits=0, compression=Compression.LZ4),
    FamilySpec("records"),
)

# Below 2^31, so that a pair of numbers and a mark fit into 64 bits (edges.py).
MOST_RESOURCES = 1 << 31
# Below 2^30, for the mark in the column of output inputs (embedded_outputs.py).
MOST_INPUTS = 1 << 30
MOST_VIEWS = 1 << 16
MOST_ASPECTS = 1 << 16


class TooMany(ResourceExhausted):
    """The store can give no more numbers of a kind."""

    default_reason = "NUMBERS_EXHAUSTED"


def check_room(number: int, most: int, what: str) -> int:
    """The number. Raises TooMany when the store cannot have so many."""
    if number >= most:
        raise TooMany(f"this shard has {most} {what}, the most that it can number", metadata={"most": str(most)})
    return number


def u16(number: int) -> bytes:
    """Two bytes of a key."""
    return number.to_bytes(2, "big")


def u32(number: int) -> bytes:
    """Four bytes of a key."""
    return number.to_bytes(4, "big")


def u64(number: int) -> bytes:
    """Eight bytes of a key."""
    return number.to_bytes(8, "big")
