"""Which shard a resource belongs to: what is rendered of it, and its outputs, are there.

The place is a matter of the name and of the number of shards alone, and is kept for ever in what the shards hold: the
hash must not change. An output counts as the resource that it is made of, however often it was made of another output,
so that views of one resource may depend on each other.
"""

import zlib
from dataclasses import dataclass

from services.propagation.domain.names import output_parts


@dataclass(frozen=True, slots=True)
class Part:
    """Shard `number` of `shards`."""

    number: int = 0
    shards: int = 1

    def has(self, resource: str) -> bool:
        """Whether the resource is of this shard."""
        return self.shards == 1 or shard_of(resource, self.shards) == self.number


WHOLE = Part()


def shard_of(resource: str, shards: int) -> int:
    """The shard of a resource, 0 to shards - 1."""
    while (parts := output_parts(resource)) is not None:
        resource = parts[1]
    # A CRC alone is linear: names that count up would follow each other into few shards of 2, 4, 8.
    mixed = zlib.crc32(resource.encode()) * 0x9E3779B1 & 0xFFFF_FFFF
    return mixed * shards >> 32
