"""What an opaque realm keeps: rows by name, and what is left of deleted ones. Plain values; microseconds of 1970."""

from dataclasses import dataclass
from typing import Final, NamedTuple

from services.session.domain.model import Epochs

OPAQUE_REALM: Final = b"\xff" * 32
"""In a subject's place, whose key in the store is the realm's own: no HMAC gives it."""
_MARK: Final = b"\xff" * 24


def key_subject(created_us: int) -> bytes:
    """As OPAQUE_REALM, in several data centres, for the realm that was made then: one that is made anew has another, so
    that no copy of a key is that of the realm before."""
    return _MARK + created_us.to_bytes(8, "big")


def is_key_subject(subject: bytes) -> bool:
    """Whether it stands for an opaque realm."""
    return subject.startswith(_MARK)


@dataclass(frozen=True, slots=True, repr=False)
class OpaqueRow:
    """A value. `name`: see crypto/opaque; `stamp`: the realm's epochs when it was written; `until_us`: its end by the
    policy of then; `left_out_bytes`: the size of a sealed value that was not read along."""

    name: bytes
    written_us: int
    until_us: int
    stamp: Epochs
    sealed: bytes
    left_out_bytes: int = 0

    @property
    def stored_bytes(self) -> int:
        """How many bytes `sealed` has, or has in the store."""
        return len(self.sealed) + self.left_out_bytes

    def __repr__(self) -> str:
        return f"OpaqueRow({self.written_us}, {self.until_us}, {len(self.sealed)} bytes)"


class OpaqueTombstone(NamedTuple):
    """A deletion, kept until nobody's late write could bring the value back."""

    at_us: int
    until_us: int


class OpaqueStored(NamedTuple):
    """One read: the row and the tombstone under any of a key's names; None for what is not there."""

    row: OpaqueRow | None
    tombstone: OpaqueTombstone | None
