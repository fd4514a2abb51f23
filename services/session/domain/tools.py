"""What every verb works with, and the loop that makes a conditional write of one session."""

import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar

from services.session.crypto.keyring import Keyring
from services.session.domain.errors import Contended
from services.session.domain.hot import Hot
from services.session.domain.opaque_usage import OpaqueUsage
from services.session.domain.proofs import Proofs
from services.session.domain.realms import Realms
from services.session.domain.steady import SteadyClock
from services.session.domain.vault import Vault
from services.session.store.interface import Store

_Result = TypeVar("_Result")

ATTEMPTS: Final = 64
"""How often a change begins again because another one of the same session came first: each time one of them succeeded,
so that more than so many at once are refused."""


class Events(Protocol):
    """Where what happens to sessions is told: handles only, never a token, a subject or a value."""

    def record(self, what: str, realm: str, *, handle: str = "", caller: str = "", **facts: str | int) -> None:
        """One event, `what` in snake case: "session_created"."""
        ...


@dataclass(frozen=True, slots=True)
class Tools:
    """Store, keys, time and randomness of one server. `home` is the number in tokens of `datacentre`; `shared`: other
    servers may change the store; `incarnation` names the life of the data, another one after a backup was put back;
    `hot` stands in front of the store, if anything does; `others` are the other data centres that keep sessions."""

    store: Store
    keyring: Keyring
    vault: Vault
    realms: Realms
    clock: SteadyClock
    random: Callable[[int], bytes]
    events: Events
    datacentre: str
    home: int
    request_window_us: int
    proofs: Proofs
    shared: bool = False
    incarnation: bytes = b""
    hot: Hot | None = None
    opaque_usage: OpaqueUsage = field(default_factory=OpaqueUsage)
    others: tuple[str, ...] = ()

    def home_of(self, number: int) -> str:
        """The data centre whose number is in a token; this one for a number that no other one has."""
        return next((name for name in self.others if home_number(name) == number), self.datacentre)


def home_number(datacentre: str) -> int:
    """How a token names a data centre: 16 bits of the CRC-32 of its name."""
    return zlib.crc32(datacentre.encode()) & 0xFFFF


async def until_written(attempt: Callable[[], Awaitable[_Result | None]]) -> _Result:
    """Repeats `attempt` (read, decide, write) until its write is not lost to another: it answers None when it was.

    Raises Contended after ATTEMPTS.
    """
    for _ in range(ATTEMPTS):
        result = await attempt()
        if result is not None:
            return result
    raise Contended("many changes of this session at once; nothing was done", retry_after_s=0.1)
