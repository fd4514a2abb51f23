"""What a data centre says of its revocations, as it is heard in another one. Plain values; microseconds of 1970."""

from collections.abc import Mapping
from typing import NamedTuple


class Fence(NamedTuple):
    """Whether a data centre is shut out, and since when: of two words the later one counts."""

    at_us: int
    shut: bool


class Heard(NamedTuple):
    """What an origin said last: when, and in which realms not all is here yet that it speaks of."""

    origin: str
    at_us: int
    behind: frozenset[str]
    fences: Mapping[str, Fence]
