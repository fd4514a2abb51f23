"""Names that a shard gives and that must be told from another shard's: leases, the engine's own roots, places in lists.

=====================  =============================================================================
lease                  the shard's number in the high 16 bits of 64, the shard's own number below
root of the engine     late/<sequence> becomes late/<shard>/<sequence>
place in a list        <shard>/<shards>.<the shard's token>: shards are listed one after the other
visibility token       wvs1-, and of each shard the sequence that it gave the change, 16 digits each
=====================  =============================================================================

Once the number of shards has grown, tokens of before are of what the present shards were then: a place in a list is
refused, sequences are those of the shard out of which each came.
"""

import re
from collections.abc import Sequence

from libs.errors.errors import InvalidArgument
from services.propagation.domain import visibility
from services.propagation.domain.records import LATE_PREFIX

_LEASE_BITS = 48
_OWN = re.compile(rf"{LATE_PREFIX}([0-9a-f]{{1,16}})")
_TOLD = re.compile(rf"{LATE_PREFIX}([0-9]{{1,4}})/([0-9a-f]{{1,16}})")
_PLACE = re.compile(r"([0-9]{1,4})/([0-9]{1,4})\.(.*)", re.DOTALL)
_VISIBLE = "wvs1-"
_DIGITS = 16

MOST_SHARDS = 64


def lease_told(shard: int, lease: int) -> int:
    """A lease's number as executors see it."""
    return shard << _LEASE_BITS | lease


def lease_asked(told: int) -> tuple[int, int]:
    """(shard, the shard's number)."""
    return told >> _LEASE_BITS, told & (1 << _LEASE_BITS) - 1


def change_told(shard: int, change_id: str) -> str:
    """A root's id as callers see it."""
    own = _OWN.fullmatch(change_id)
    return f"{LATE_PREFIX}{shard}/{own[1]}" if own else change_id


def change_asked(change_id: str, first_sequence: int) -> tuple[int | None, str]:
    """(the shard whose own root it is, or None, the id there). Roots that a shard made before it was divided have the
    id by which they were told then, in all its parts; `first_sequence` is the least of the present generation."""
    told = _TOLD.fullmatch(change_id)
    if told is None or int(told[2], 16) < first_sequence:
        return None, change_id
    return int(told[1]), f"{LATE_PREFIX}{told[2]}"


def place_told(shard: int, shards: int, token: str) -> str:
    """A place in a list that goes through the shards."""
    return f"{shard}/{shards}.{token}"


def place_asked(told: str, shards: int, path: str) -> tuple[int, str]:
    """(shard, the shard's token); the beginning for none. Raises InvalidArgument for what was never told."""
    if not told:
        return 0, ""
    place = _PLACE.fullmatch(told)
    if place is None or int(place[2]) != shards or int(place[1]) >= shards:
        raise InvalidArgument.field(path, "is not from an answer of this method", reason="PAGE_TOKEN_INVALID")
    return int(place[1]), place[3]


def visibility_told(sequences: Sequence[int]) -> str:
    """The token of a change that each shard gave its sequence."""
    return _VISIBLE + "".join(f"{sequence:0{_DIGITS}x}" for sequence in sequences)


def visibility_asked(token: str, shard: int, shards: int) -> str:
    """The shard's token; what is no token of a fleet (a change's id) stays as it is."""
    digits = token.removeprefix(_VISIBLE)
    if digits == token or set(digits) - set("0123456789abcdef"):
        return token
    mine = of_parent(digits, _DIGITS, shard, shards)
    return token if mine is None else visibility.token(int(mine, 16))


def of_parent(digits: str, size: int, shard: int, shards: int) -> str | None:
    """Of `size` digits for each shard those of one: told when there were fewer, those of the shard that it was then.
    None where they are of no such number of shards."""
    before, odd = divmod(len(digits), size)
    if odd or not before or shards % before:
        return None
    at = shard * before // shards * size
    return digits[at : at + size]
