"""Which puts are alike: they can be one step (``together.py``)."""

from collections.abc import Sequence
from typing import Final

from services.storage.cassandra.wanted import token_row
from services.storage.domain.model import Command
from services.storage.domain.namespace import Namespace
from services.storage.store.interface import Write

MOST: Final = 100
"""Records of one step."""

_Kinds = dict[tuple[int, bytes, bytes], dict[bytes, int]]
"""Indexes of writes by record; by namespace, item and token."""


def single(space: Namespace, command: Command) -> bool:
    """Whether a mutation is a put of one item that has nothing to do with other records."""
    if not space.stamped or len(command.puts) != 1 or command.deletes or command.dry_run or command.want_cost:
        return False
    quota = space.settings.quota
    return not (command.puts[0].chunked or quota.max_bytes or quota.max_records)


def alike(writes: Sequence[Write]) -> list[list[int]]:
    """The writes that make one step, by index, two of them at least; not one record is there twice in a step."""
    by_token: _Kinds = {}
    for index, (space, command) in enumerate(writes):
        if single(space, command):
            kind = (space.number, command.puts[0].key, token_row(command)[1])
            by_token.setdefault(kind, {}).setdefault(command.record, index)
    alone: _Kinds = {}
    for (number, key, _), step in by_token.items():
        if len(step) == 1:
            ((record, index),) = step.items()
            alone.setdefault((number, key, b""), {}).setdefault(record, index)
    found = []
    for step in (*by_token.values(), *alone.values()):
        indexes = list(step.values())
        pieces = [indexes[first : first + MOST] for first in range(0, len(indexes), MOST)]
        found += [piece for piece in pieces if len(piece) > 1]
    return found
