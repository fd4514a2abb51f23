"""The keyring's file and what the data knows of it: both belong together, or nothing starts.

The data notes each key that it was or will be written with (a check value that tells nothing of the key), which of them
were ever the active one, and which were retired.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from libs.errors.errors import Unavailable
from libs.telemetry.logs import fields
from services.session.crypto import keyring as keyrings
from services.session.crypto import rotation
from services.session.crypto.keyring import ACTIVE, NEXT, RETIRING, Keyring, KeyringUnusable
from services.session.domain.errors import KeysUnheard
from services.session.store.interface import Store

log = logging.getLogger(__name__)

_NOTE: Final = "keyring"
_HISTORY: Final = "keyring_history"
_RETIRED: Final = "keyring_retired/"
_WANTED: Final = "keyring_wanted/"
_PROMOTED: Final = "keyring_promoted/"


class File:
    """See `domain.key_files.KeyringFile`. Disk work is done beside the event loop."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def read(self) -> Keyring:
        return await asyncio.to_thread(keyrings.load, self._path)

    async def change(self, make: Callable[[Keyring], Keyring]) -> Keyring:
        return await asyncio.to_thread(rotation.change, self._path, make)


class Notes:
    """See `domain.key_files.KeyNotes`: kept in the store, beside the data. Servers that share it may write their notes
    over each other's, so that what was promoted and retired is noted apart as well, in every data centre, and what they
    need is noted again."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def known(self) -> tuple[dict[str, str], dict[str, Any]] | None:
        """Check values by key, and the history; None over a store that was never written."""
        promoted = [_PROMOTED + purpose for purpose in rotation.ROTATED]
        noted = await self._store.noted([_NOTE, _HISTORY, *promoted])
        if _NOTE not in noted:
            return None
        checks, history = json.loads(noted[_NOTE]), json.loads(noted.get(_HISTORY, b"{}"))
        used = {noted[name].decode() for name in promoted if name in noted}
        history["used"] = sorted(used.union(history.get("used", [])))
        gone = {**history.get("retired", {}), **await self._noted_retired(used.union(checks))}
        history["retired"] = gone
        return {key_id: check for key_id, check in checks.items() if key_id not in gone}, history

    async def remember(self, ring: Keyring) -> None:
        known = await self.known()
        checks, history = known if known is not None else ({}, {})
        used = {key.key_id for key in ring.everything() if key.state == ACTIVE}
        history["used"] = sorted(used.union(history.get("used", [])))
        own = {key.key_id: key.check for key in ring.everything() if key.key_id not in history.get("retired", {})}
        await self._write(checks | own, history)

    async def promoted(self, ring: Keyring, key_id: str) -> None:
        await self.remember(ring)
        await self._note_everywhere(_of(_PROMOTED, key_id), key_id.encode())

    async def forget(self, key_id: str, now_s: int) -> None:
        known = await self.known()
        checks, history = known if known is not None else ({}, {})
        checks.pop(key_id, None)
        history["retired"] = {**history.get("retired", {}), key_id: now_s}
        await self._note_everywhere(_RETIRED + key_id, b"%d" % now_s)
        await self._write(checks, history)

    async def used(self) -> set[str]:
        known = await self.known()
        if known is None:
            return set()
        used = set(known[1].get("used", []))
        return used.difference(await self.retired(used))

    async def want(self, key_id: str) -> None:
        await self._note_everywhere(_of(_WANTED, key_id), key_id.encode())

    async def done(self, key_id: str) -> None:
        await self._store.note({_of(_WANTED, key_id): b""})

    async def wanted(self) -> set[str]:
        noted = await self._store.noted([_WANTED + purpose for purpose in rotation.ROTATED])
        return {key_id.decode() for key_id in noted.values() if key_id}

    async def retired(self, among: Collection[str] = ()) -> dict[str, int]:
        known = await self.known()
        told = {} if known is None else dict(known[1].get("retired", {}))
        return told | await self._noted_retired(among)

    async def _noted_retired(self, among: Collection[str]) -> dict[str, int]:
        noted = await self._store.noted([_RETIRED + key_id for key_id in among])
        return {name.removeprefix(_RETIRED): int(at_s) for name, at_s in noted.items()}

    async def _note_everywhere(self, name: str, value: bytes) -> None:
        """Raises KeysUnheard while a data centre is away, whose servers could begin without it."""
        try:
            await self._store.note({name: value}, everywhere=True)
        except Unavailable as error:
            if self._store.origins is None:
                raise
            what = "not every data centre can be told of it: no key changes meanwhile, and asking again does no harm"
            raise KeysUnheard(what, retry_after_s=error.retry_after_s) from None

    async def _write(self, checks: dict[str, str], history: dict[str, Any]) -> None:
        await self._store.note({_NOTE: json.dumps(checks).encode(), _HISTORY: json.dumps(history).encode()})


async def open_keyring(path: Path, store: Store, now_s: int, *, create: bool) -> Keyring:
    """The keyring of the file, which holds every key that the store's data was written with.

    Made when neither it nor data is there and `create` says so. Raises KeyringUnusable, having changed nothing.
    """
    notes = Notes(store)
    noted = await notes.known()
    if not await asyncio.to_thread(path.exists):
        if noted is not None:
            raise KeyringUnusable(
                f"there is data, and the keyring that it was written with is not at {path}; put it back from its own"
                " backup (without it no session can be read; to begin anew, move the data away)"
            )
        if not create:
            raise KeyringUnusable(f"there is no keyring at {path}; give one, or set create_keyring for a first start")
        await asyncio.to_thread(keyrings.save, path, keyrings.generate(now_s))
        log.info("a keyring was made", extra=fields(path=str(path)))
    ring = await asyncio.to_thread(keyrings.load, path)
    known, history = noted if noted is not None else ({}, {})
    _check(path, ring, known, history)
    await notes.remember(ring)
    return _stamped(ring, now_s)


def _of(kind: str, key_id: str) -> str:
    """One for each purpose: of those that promote at once none hides the other."""
    return kind + key_id.rpartition("-")[0]


def _check(path: Path, ring: Keyring, known: dict[str, str], history: dict[str, Any]) -> None:
    checks = {key.key_id: key.check for key in ring.everything()}
    missing = sorted(key_id for key_id in known if key_id not in checks)
    if missing:
        raise KeyringUnusable(
            f"the keyring at {path} is older than the data: it lacks {', '.join(missing)}; put the newest one back"
            " (data restored from before a key was retired needs the keyring of that time)"
        )
    if any(checks[key_id] != check for key_id, check in known.items()):
        raise KeyringUnusable(f"the keyring at {path} is not the one that the data was written with")
    waiting = sorted(
        {key.key_id for key in ring.everything() if key.state == NEXT}.intersection(history.get("used", []))
    )
    if waiting:
        raise KeyringUnusable(
            f"the keyring at {path} is older than the data, which was written with {', '.join(waiting)}: in this file"
            " that is a next key still; put the newest one back"
        )


def _stamped(ring: Keyring, now_s: int) -> Keyring:
    """A key that was made retiring by hand was in use until now, as far as anybody knows."""
    keys = [
        replace(key, superseded_s=now_s) if key.state == RETIRING and not key.superseded_s else key
        for key in ring.everything()
    ]
    return Keyring(keys)
