"""The raw libraries at the fan-out bench's work: rocksdict and pyroaring, durable completions and nothing else.

For each batch: the next members of a set, the blocks of three columns read, changed and written as one batch, the log
synced, the set without its members. No names, no leases, no roots, no other process: what an engine adds to that is the
ratio that the bench tells.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
import rocksdict
from pyroaring import BitMap

_BLOCK = 128
_COLUMNS = ((b"r", 8), (b"w", 8), (b"h", 16))


def completions_per_s(folder: Path, members: BitMap, batch: int) -> float:
    """Durable completions a second of all the members, in a new database in `folder`."""
    database = rocksdict.Rdict(str(folder), _options())
    left, sequence = members.copy(), 0
    began = time.monotonic()
    while left:
        sequence += 1
        ids = np.frombuffer(left[:batch].to_array(), np.uint32)
        write = rocksdict.WriteBatch(raw_mode=True)
        for name, width in _COLUMNS:
            _scatter(database, write, name, width, ids, sequence)
        database.write(write)
        database.flush_wal(True)
        left -= BitMap(ids)
    took = time.monotonic() - began
    database.close()
    return len(members) / took


def _options() -> rocksdict.Options:
    options = rocksdict.Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_compression_type(rocksdict.DBCompressionType.lz4())
    return options


def _scatter(
    database: rocksdict.Rdict, write: rocksdict.WriteBatch, name: bytes, width: int, ids: np.ndarray, value: int
) -> None:
    blocks = ids // _BLOCK
    starts = np.flatnonzero(np.concatenate(([True], blocks[1:] != blocks[:-1])))
    raw = blocks[starts].astype(">u4").tobytes()
    keys: list[Any] = [name + raw[at : at + 4] for at in range(0, len(raw), 4)]
    values: Any = database.get(keys)
    empty = bytes(_BLOCK * width)
    held = bytearray(b"".join([found or empty for found in values]))
    places = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(ids))) * _BLOCK + ids % _BLOCK
    np.frombuffer(held, np.uint64).reshape(-1, width // 8)[places] = value
    size, changed = len(empty), bytes(held)
    for at, key in enumerate(keys):
        write.put(key, changed[at * size : at * size + size])
