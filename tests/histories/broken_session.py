"""The session server with a fault in what it promises, so that the judge has something to find:

python -m tests.histories.broken_session FAULT followed by the arguments of services.session.main
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import sys
from collections.abc import Callable
from typing import Any, Final
from unittest import mock

from services.session import main
from services.session.domain import family
from services.session.domain.model import Epoch, Session, TokenRecord
from services.session.store.embedded import EmbeddedStore

EACH: Final = 5
"""The faults that happen now and then happen each so many times."""
LATER_S: Final = 0.5
_Patch = Any


def hasty() -> _Patch:
    """A revocation is acknowledged before it is written."""
    end = EmbeddedStore.end
    under_way: set[asyncio.Task[int]] = set()

    async def later(store: EmbeddedStore, *arguments: Any) -> int:
        await asyncio.sleep(LATER_S)
        return await end(store, *arguments)

    async def at_once(store: EmbeddedStore, *arguments: Any) -> int:
        task = asyncio.create_task(later(store, *arguments))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
        return 1

    return mock.patch.object(EmbeddedStore, "end", at_once)


def forgetful() -> _Patch:
    """Now and then the epoch of a subject, below which its sessions are over, is forgotten by a read."""
    read, count = EmbeddedStore.read, itertools.count(1)

    async def forgets(store: EmbeddedStore, *arguments: Any, **more: Any) -> Any:
        stored = await read(store, *arguments, **more)
        return stored._replace(subject_epoch=Epoch()) if next(count) % EACH == 0 else stored

    async def ends_nothing(*_: Any, **__: Any) -> int:
        return 0

    # What is housekeeping after an epoch would hide it.
    return _both(
        mock.patch.object(EmbeddedStore, "read", forgets),
        mock.patch("services.session.domain.revoking._end_all", ends_nothing),
    )


def stale() -> _Patch:
    """Answers that are kept in memory are taken again, whatever was written since."""
    marks: dict[tuple[str, str], Any] = {}
    mark = EmbeddedStore.mark

    async def first(store: EmbeddedStore, realm: str, handle: str, subject: bytes) -> Any:
        if (realm, handle) not in marks:
            marks[realm, handle] = await mark(store, realm, handle, subject)
        return marks[realm, handle]

    return mock.patch.object(EmbeddedStore, "mark", first)


def lenient() -> _Patch:
    """Now and then a step-up leaves the token of before good for a while."""
    replaced, count = family.replaced, itertools.count(1)

    def kept(session: Session, child: TokenRecord, now_us: int, notice_us: int) -> Session:
        after = replaced(session, child, now_us, notice_us)
        if next(count) % EACH:
            return after
        return dataclasses.replace(after, tokens=(*session.tokens[-1:], child))

    return mock.patch.object(family, "replaced", kept)


FAULTS: Final[dict[str, Callable[[], _Patch]]] = {fault.__name__: fault for fault in (hasty, forgetful, stale, lenient)}


def _both(one: _Patch, other: _Patch) -> _Patch:
    one.start()
    return other


def run() -> int:
    """Serves with the fault that the first argument names."""
    with FAULTS[sys.argv.pop(1)]():
        return main.main()


if __name__ == "__main__":
    sys.exit(run())
