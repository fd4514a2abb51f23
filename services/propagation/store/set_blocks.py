"""Blocks of 32 sets: the form of both directions of the graph on disk, for all sets that are not a hub's.

A block holds the sets of 32 neighbouring owners. Its bytes: four that say, a bit each, which owners have a set; the
sizes of these sets; then the members of each, ascending: the first as it is, then differences. Sizes and members are
varints. Many blocks are written and read in one pass; between blocks and the rest of the store go keys,
owner << 32 | member.
"""

from collections.abc import Sequence

import numpy as np

from services.propagation.store import varints
from services.propagation.store.edges import Keys, unpair
from services.propagation.store.interface import Numbers
from services.propagation.store.numbers import group_starts

BITS = 5
_OWNERS = 1 << BITS
_HEAD = _OWNERS // 8
_SHIFT = np.uint64(32)


def encode(keys: Keys) -> tuple[Numbers, list[bytes]]:
    """(numbers of the blocks, their bytes) for ascending keys without doubles; only blocks that have any."""
    if not len(keys):
        return np.empty(0, np.uint32), []
    owners, members = unpair(keys)
    firsts = group_starts(owners)
    steps = members.astype(np.uint64)
    steps[1:] -= members[:-1]
    steps[firsts] = members[firsts]
    sizes = np.diff(firsts, append=len(keys))
    heads = owners[firsts]
    blocks_of = heads >> BITS
    block_firsts = group_starts(blocks_of)
    owners_in = np.diff(block_firsts, append=len(firsts))
    members_in = np.add.reduceat(sizes, block_firsts)
    # In the stream each block is its sizes, then its members: both move behind what the blocks before them take.
    stream = np.empty(len(firsts) + len(keys), np.uint64)
    members_before = np.cumsum(members_in) - members_in
    owners_before = np.cumsum(owners_in)
    stream[np.arange(len(firsts)) + np.repeat(members_before, owners_in)] = sizes
    stream[np.arange(len(keys)) + np.repeat(owners_before, members_in)] = steps
    packed, ends = varints.encode(stream)
    bits = np.bitwise_or.reduceat(np.uint64(1) << (heads.astype(np.uint64) & np.uint64(_OWNERS - 1)), block_firsts)
    head, body = bits.astype("<u4").tobytes(), packed.tobytes()
    cuts = [0, *ends[np.cumsum(owners_in + members_in) - 1].tolist()]
    values = [
        head[at * _HEAD : at * _HEAD + _HEAD] + body[start:end]
        for at, (start, end) in enumerate(zip(cuts, cuts[1:], strict=False))
    ]
    return blocks_of[block_firsts], values


def members(value: bytes, owner: int) -> Numbers:
    """The set of one owner, from its block's bytes; empty when it has none."""
    bits = int.from_bytes(value[:_HEAD], "little")
    place = owner & (_OWNERS - 1)
    if not bits >> place & 1:
        return np.empty(0, np.uint32)
    rank = (bits & ((1 << place) - 1)).bit_count()
    numbers, _ = varints.decode(np.frombuffer(value, np.uint8, offset=_HEAD))
    start = bits.bit_count() + int(numbers[:rank].sum())
    return np.cumsum(numbers[start : start + int(numbers[rank])]).astype(np.uint32)


def decode(blocks: Numbers, values: Sequence[bytes]) -> Keys:
    """The keys of blocks, ascending when the blocks are. Values are what `encode` made."""
    if not len(values):
        return np.empty(0, np.uint64)
    head = np.frombuffer(b"".join([value[:_HEAD] for value in values]), np.uint8)
    body = np.frombuffer(b"".join([value[_HEAD:] for value in values]), np.uint8)
    numbers, ends = varints.decode(body)
    there = np.flatnonzero(np.unpackbits(head, bitorder="little"))
    owners = ((blocks.astype(np.uint64) << np.uint64(BITS))[there >> BITS]) | (there & (_OWNERS - 1)).astype(np.uint64)
    owners_in = np.bincount(there >> BITS, minlength=len(values))
    byte_ends = np.cumsum(np.fromiter(map(len, values), np.int64, len(values)) - _HEAD)
    all_in = np.diff(np.searchsorted(ends, byte_ends, side="right"), prepend=0)
    members_in = all_in - owners_in
    members_before = np.cumsum(members_in) - members_in
    sizes = numbers[np.arange(len(owners)) + np.repeat(members_before, owners_in)].astype(np.int64)
    steps = numbers[np.arange(len(numbers) - len(owners)) + np.repeat(np.cumsum(owners_in), members_in)]
    sums = np.cumsum(steps)
    firsts = np.cumsum(sizes) - sizes
    before = sums[firsts] - steps[firsts]
    keys: Keys = (np.repeat(owners, sizes) << _SHIFT) | (sums - np.repeat(before, sizes))
    return keys
