"""Names that a shard gives and that must be told from another shard's: leases, the engine's own roots, places in lists.

=====================  =============================================================================
lease                  the shard's number in the high 16 bits of 64, the shard's own number below
root of the engine     late/<sequence> becomes late/<shard>/<sequence>
place in a list        <shard>.<the shard's token>: shards are listed one after the other
visibility token       wvs1-, and of each shard the sequence that it gave the change, 16 digits each
=====================  =============================================================================
"""

import re
from collections.abc import Sequence

from libs.errors.errors import InvalidArgument
from services.propagation.domain import visibility
from services.propagation.domain.records import LATE_PREFIX

_LEASE_BITS = 48
_OWN = re.compile(rf"{LATE_PREFIX}([0-9a-f]{{1,16}})")
_TOLD = re.compile(rf"{LATE_PREFIX}([0-9]{{1,4}})/([0-9a-f]{{1,16}})")
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


def change_asked(change_id: str) -> tuple[int | None, str]:
    """(the shard whose own root it is, or None, the id there)."""
    told = _TOLD.fullmatch(change_id)
    return (int(told[1]), f"{LATE_PREFIX}{told[2]}") if told else (None, change_id)


def place_told(shard: int, token: str) -> str:
    """A place in a list that goes through the shards."""
    return f"{shard}.{token}"


def place_asked(told: str, shards: int, path: str) -> tuple[int, str]:
    """(shard, the shard's token); the beginning for none. Raises InvalidArgument for what was never told."""
    if not told:
        return 0, ""
    number, dot, token = told.partition(".")
    if not dot or not number.isdecimal() or len(number) > 4 or int(number) >= shards:
        raise InvalidArgument.field(path, "is not from an answer of this method", reason="PAGE_TOKEN_INVALID")
    return int(number), token


def visibility_told(sequences: Sequence[int]) -> str:
    """The token of a change that each shard gave its sequence."""
    return _VISIBLE + "".join(f"{sequence:0{_DIGITS}x}" for sequence in sequences)


def visibility_asked(token: str, shard: int, shards: int) -> str:
    """The shard's token; what is no token of a fleet (a change's id) stays as it is."""
    digits = token.removeprefix(_VISIBLE)
    if digits == token or len(digits) != shards * _DIGITS or set(digits) - set("0123456789abcdef"):
        return token
    return visibility.token(int(digits[shard * _DIGITS : (shard + 1) * _DIGITS], 16))
