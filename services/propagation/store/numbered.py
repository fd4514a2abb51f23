"""What a commit numbers: as it was given in one store, to be given again in another one that follows it.

A commit's names are numbered while it is gathered, and other commits may be written before it. A store that applies the
same commits in the order in which they were written would so give other numbers, if it gave its own.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from services.propagation.store.interface import Commit, Numbers


def _none() -> Numbers:
    return np.empty(0, np.uint32)


@dataclass(frozen=True, slots=True)
class InputNumbers:
    """Input `numbers[i]` is the aspect `aspects[which[i]]` of `resources[i]`. The arrays are parallel."""

    numbers: Numbers
    resources: Numbers
    which: Numbers
    aspects: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Numbered:
    """The numbers that a commit brings, by name, and the first ones that were never given when it was written."""

    views: dict[str, int]
    names: dict[bytes, int]
    inputs: InputNumbers
    next_resource: int
    next_input: int


class NumberedCommit(Commit, Protocol):
    """A commit that can say what it numbers, and take numbers that were given elsewhere."""

    def numbered(self) -> Numbered:
        """What it numbers so far."""

    def renumber(self, given: Numbered) -> None:
        """Takes these numbers as its own. On an empty commit, before anything else.

        The store gives none of them, and none below `next_resource` and `next_input`, to anything else.
        """


def no_inputs() -> InputNumbers:
    """None."""
    return InputNumbers(_none(), _none(), _none(), ())
