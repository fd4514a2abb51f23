"""Where a session is read: here, as it is known here, and at its home when that says no, or when it is to be changed.

A session of another data centre may not have arrived yet, or only as it was before. So what is good here is good; what
is not is asked for at home before anybody is told no, and where home does not answer the answer is HOME_UNREACHABLE.
Whatever changes a session reads it at home, where the change is decided.
"""

from collections.abc import Callable, Sequence

from services.session.domain.model import Session
from services.session.domain.tools import Tools
from services.session.store.interface import Stored

Good = Callable[[Stored], bool]
"""Whether what was read will do."""


async def read(
    tools: Tools, realm: str, handle: str, keys: Sequence[bytes], kinds: bytes, *, home: str, good: Good
) -> Stored:
    """A session whose home is known. Raises HomeUnreachable."""
    stored = await tools.store.read(realm, handle, keys, kinds=kinds)
    if home == tools.datacentre or good(stored):
        return stored
    return await tools.store.read(realm, handle, keys, kinds=kinds, home=home)


async def find(
    tools: Tools, realm: str, handle: str, keys: Sequence[bytes] = (), kinds: bytes = b"", *, decided: bool = False
) -> Stored:
    """A session by its public name, which does not tell its home: where it is not here, each data centre is asked.
    `decided`: as it is at its home, to be changed. Raises HomeUnreachable."""
    stored = await tools.store.read(realm, handle, keys, kinds=kinds)
    session = stored.session
    if session is not None:
        if not decided or not is_elsewhere(tools, session):
            return stored
        return await tools.store.read(realm, handle, keys, kinds=kinds, home=session.home)
    if stored.tombstone is not None:
        return stored
    for home in tools.others:
        there = await tools.store.read(realm, handle, keys, kinds=kinds, home=home)
        if there.session is not None or there.tombstone is not None:
            return there
    return stored


def is_elsewhere(tools: Tools, session: Session) -> bool:
    """Whether a session's home is another data centre."""
    return session.home in tools.others
