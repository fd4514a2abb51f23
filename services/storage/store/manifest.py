"""Where a big value lies: the value of an item whose bytes are in chunks."""

import struct
from typing import Final, NamedTuple

_MANIFEST: Final = struct.Struct(">16sQI")


class Manifest(NamedTuple):
    """``upload`` names the chunks (16 bytes), of ``chunk_sizes``; ``size`` bytes together, with their CRC-32C."""

    upload: bytes
    size: int
    crc32c: int
    chunk_sizes: tuple[int, ...]


def encode(manifest: Manifest) -> bytes:
    """The value of a chunked item."""
    sizes = manifest.chunk_sizes
    return _MANIFEST.pack(manifest.upload, manifest.size, manifest.crc32c) + struct.pack(f">{len(sizes)}I", *sizes)


def decode(value: bytes) -> Manifest:
    """The manifest that is the value of a chunked item."""
    upload, size, crc32c = _MANIFEST.unpack_from(value)
    count = (len(value) - _MANIFEST.size) // 4
    return Manifest(upload, size, crc32c, struct.unpack_from(f">{count}I", value, _MANIFEST.size))
