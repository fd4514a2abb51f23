"""Packed fields: millions of numbers and names in a few bytes fields, where repeated fields would cost a hundred times
the CPU.

=======  ==========================================================================================
ids      ascending numbers without doubles, each as its difference from the one before (the first
         from zero), little-endian uint32
counts   numbers in any order, little-endian uint32
names    UTF-8 texts without control characters, joined by NUL
hashes   16 bytes each, one after the other
=======  ==========================================================================================

The decoders take hostile input: whatever does not have the form raises ValueError, saying what is wrong.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

__all__ = [
    "HASH_BYTES",
    "Numbers",
    "decode_counts",
    "decode_hashes",
    "decode_ids",
    "decode_names",
    "encode_counts",
    "encode_hashes",
    "encode_ids",
    "encode_names",
]

HASH_BYTES = 16

Numbers = npt.NDArray[np.uint32]

_U32 = np.dtype("<u4")
_LIMIT = 1 << 32
_CONTROL = bytes([*range(1, 0x20), 0x7F])
_CONTROL_BUT_TAB = _CONTROL.replace(b"\t", b"")


def encode_ids(ids: Sequence[int] | npt.NDArray[np.generic]) -> bytes:
    """Ascending numbers below 2^32 without doubles, packed. Raises ValueError for others."""
    wide = np.asarray(ids, dtype=np.int64)
    if wide.ndim != 1:
        raise ValueError("ids are one row of numbers")
    if not wide.size:
        return b""
    steps = np.diff(wide, prepend=np.int64(0))
    if wide[0] < 0 or wide[-1] >= _LIMIT or (steps[1:] <= 0).any():
        raise ValueError("ids are ascending numbers from 0 to 2^32 - 1 without doubles")
    return steps.astype(_U32).tobytes()


def decode_ids(packed: bytes) -> Numbers:
    """The numbers, uint32, shape (n,). Raises ValueError when they do not ascend or leave 32 bits."""
    steps = decode_counts(packed)
    if not steps.size:
        return steps
    if steps.size > 1 and not steps[1:].all():
        raise ValueError("packed ids hold a number twice")
    ids = np.cumsum(steps, dtype=np.uint64)
    if ids[-1] >= _LIMIT:
        raise ValueError("packed ids go beyond 32 bits")
    return ids.astype(np.uint32)


def encode_counts(counts: Sequence[int] | npt.NDArray[np.generic]) -> bytes:
    """Numbers below 2^32, packed in their order. Raises ValueError for others."""
    wide = np.asarray(counts, dtype=np.int64)
    if wide.size and (wide.min() < 0 or wide.max() >= _LIMIT):
        raise ValueError("packed numbers lie from 0 to 2^32 - 1")
    return wide.astype(_U32).tobytes()


def decode_counts(packed: bytes) -> Numbers:
    """The numbers, uint32, shape (n,). Raises ValueError when the bytes are not whole numbers."""
    if len(packed) % 4:
        raise ValueError(f"packed numbers have 4 bytes each: got {len(packed)} bytes")
    return np.frombuffer(packed, dtype=_U32).astype(np.uint32, copy=False)


def encode_names(names: Iterable[str], *, tab_allowed: bool = False) -> bytes:
    """Texts joined by NUL. Raises ValueError for an empty one and for control characters, but for TAB where it is
    ``tab_allowed`` (inputs with their aspects).
    """
    listed = list(names)
    packed = "\0".join(listed).encode()
    if listed:
        _check_names(packed, len(listed), tab_allowed)
    return packed


def decode_names(packed: bytes, *, tab_allowed: bool = False) -> list[str]:
    """The texts. Raises ValueError when one is empty, not UTF-8, or holds control characters (TAB where allowed)."""
    if not packed:
        return []
    _check_names(packed, packed.count(b"\0") + 1, tab_allowed)
    try:
        return packed.decode().split("\0")
    except UnicodeDecodeError as error:
        raise ValueError(f"packed names are UTF-8: byte {error.start} is not") from None


def _check_names(packed: bytes, count: int, tab_allowed: bool) -> None:
    if packed.count(b"\0") != count - 1:
        raise ValueError("names hold no NUL")
    if packed.startswith(b"\0") or packed.endswith(b"\0") or b"\0\0" in packed or not packed:
        raise ValueError("packed names hold an empty name")
    if len(packed.translate(None, _CONTROL_BUT_TAB if tab_allowed else _CONTROL)) != len(packed):
        raise ValueError("names hold no control characters")


def encode_hashes(hashes: Iterable[bytes]) -> bytes:
    """Hashes of 16 bytes, one after the other. Raises ValueError for another length."""
    listed = list(hashes)
    if any(len(one) != HASH_BYTES for one in listed):
        raise ValueError(f"a packed hash has {HASH_BYTES} bytes")
    return b"".join(listed)


def decode_hashes(packed: bytes) -> list[bytes]:
    """The hashes. Raises ValueError when the bytes are not whole hashes."""
    if len(packed) % HASH_BYTES:
        raise ValueError(f"packed hashes have {HASH_BYTES} bytes each: got {len(packed)} bytes")
    return [packed[start : start + HASH_BYTES] for start in range(0, len(packed), HASH_BYTES)]
