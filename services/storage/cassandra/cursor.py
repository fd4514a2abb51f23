"""Where a reader is in a feed: a sequence for each lane, and one for the lanes that are not named.

namespace's number 4 · (lane 8 · sequence 8)… · data centre 4 · sequence of all other lanes 8
"""

import struct
import zlib
from collections.abc import Mapping
from typing import Final, NamedTuple

from services.storage.domain.errors import ResumeTokenExpired
from services.storage.domain.namespace import Namespace

_NUMBER: Final = struct.Struct(">I")
_LANE: Final = struct.Struct(">QQ")
_END: Final = struct.Struct(">IQ")
SIZE: Final = _NUMBER.size + _END.size
"""Of a cursor without lanes."""


class Cursor(NamedTuple):
    """``base`` is the sequence for lanes that ``lanes`` does not name. ``datacentre``: a digest of where it was
    made."""

    number: int
    datacentre: int
    base: int
    lanes: Mapping[int, int]

    def encode(self) -> bytes:
        """Its bytes."""
        lanes = b"".join(_LANE.pack(lane, self.lanes[lane]) for lane in sorted(self.lanes))
        return _NUMBER.pack(self.number) + lanes + _END.pack(self.datacentre, self.base)

    def position(self, lane: int) -> int:
        """The sequence up to which the lane was seen."""
        return self.lanes.get(lane, self.base)

    def moved(self, lane: int, sequence: int) -> "Cursor":
        """Behind one more change."""
        return self._replace(lanes={**self.lanes, lane: sequence})

    @classmethod
    def decode(cls, space: Namespace, cursor: bytes) -> "Cursor":
        """Raises ResumeTokenExpired for the cursor of a namespace of the same name that is gone."""
        if len(cursor) < SIZE or (len(cursor) - SIZE) % _LANE.size or number_of(cursor) != space.number:
            raise ResumeTokenExpired(
                f"the token belongs to a namespace {space.name!r} that was purged; scan the new one, then watch anew",
                metadata={"namespace": space.name},
            )
        lanes = dict(_LANE.iter_unpack(cursor[_NUMBER.size : -_END.size]))
        datacentre, base = _END.unpack(cursor[-_END.size :])
        return cls(space.number, datacentre, base, lanes)


def number_of(cursor: bytes) -> int:
    """The namespace's number."""
    return int(_NUMBER.unpack_from(cursor)[0])


def made_in(cursor: bytes, datacentre: str) -> bool:
    """Whether it was made by a server of ``datacentre``."""
    return bool(_END.unpack(cursor[-_END.size :])[0] == digest(datacentre))


def base_of(cursor: bytes) -> int:
    """The sequence for lanes that are not named: of a receipt's cursor, that of its change."""
    return int(_END.unpack(cursor[-_END.size :])[1])


def expired(space: Namespace) -> ResumeTokenExpired:
    """The error for a cursor behind which changes are no longer kept."""
    return ResumeTokenExpired(
        f"the feed of {space.name!r} no longer has the changes that follow this token; scan the namespace, then watch"
        " anew",
        metadata={"namespace": space.name},
    )


def digest(datacentre: str) -> int:
    """The data centre in a cursor."""
    return zlib.crc32(datacentre.encode())
