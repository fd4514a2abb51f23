"""Keys of the keyring change while the service runs: one is promoted, the one of before retired when nothing needs it.

What needs a key, and how retiring it finds that out:

* ``seal``: subjects' keys; they are sealed anew, nothing else is touched
* ``pepper``: sessions that keep a verifier made with it (of a token, of a token of before, of a rotation), and rows of
  opaque realms, whose names it makes; refused
* ``tag``: sessions made before it was superseded, whose tokens may bear its tag; refused
* ``sign``: assertions, for the minutes that they and copies of the key set live

Each call does a bounded piece of the work and says what is left; asked again it goes on, and after a restart it begins
anew over what is left. The order of writes: a key is in the file before the data knows of it, and the data forgets it
before the file does, so that a crash in between never leaves data that the file cannot open.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from libs.errors.errors import WellspringError
from services.session.crypto import rotation
from services.session.crypto.keyring import Key, Keyring, KeyringUnusable
from services.session.domain.errors import KeyNeeded
from services.session.domain.key_files import KeyHolders, KeyNotes, KeyringFile
from services.session.domain.model import Session
from services.session.domain.policy import SECOND
from services.session.domain.tools import Tools
from services.session.store.interface import Stored

SETTLED_S: Final = 600
"""How long after it was superseded a key may still be needed by what no store shows: calls under way, an assertion
(60 s) checked with a copy of the key set (300 s), clocks apart."""
ROWS_A_CALL: Final = 10_000
ROWS_A_STEP: Final = 500


@dataclass(slots=True)
class _Walk:
    """How far the retiring of one key has come, in this process: in the data centres that are `left`, in the first of
    them from `resume` on."""

    left: list[str]
    resume: bytes | None
    remaining: int


class Retired(NamedTuple):
    """What a call of `retire` came to: `done`, or rows that are `remaining`."""

    key_id: str
    done: bool
    remaining: int


class Rekeying:
    """Over the keyring that the whole server works with (`tools.keyring`), its file, and what the data knows of it;
    `holders` are the servers that share the store, this one among them."""

    def __init__(self, tools: Tools, file: KeyringFile, notes: KeyNotes, holders: KeyHolders | None = None) -> None:
        self._tools = tools
        self._holders = holders
        self._file = file
        self._notes = notes
        self._one_at_a_time = asyncio.Lock()
        self._walks: dict[str, _Walk] = {}

    async def keys(self) -> list[Key]:
        """Those at work, and those that were added to the file since, by purpose and number."""
        known = {key.key_id: key for key in (await self._file.read()).everything()}
        known |= {key.key_id: key for key in self._tools.keyring.everything()}
        return sorted(known.values(), key=lambda key: (key.purpose, key.number))

    async def retired(self) -> dict[str, int]:
        """Names of keys that are no more, and when they were retired."""
        return await self._notes.retired()

    def remaining(self, key_id: str) -> int:
        """Rows left of a retiring that is under way."""
        walk = self._walks.get(key_id)
        return walk.remaining if walk is not None else 0

    async def promote(self, key_id: str, caller: str) -> Key:
        """Makes a key of the file the one that makes what is new.

        Raises KeyNotFound, KeyStateWrong, KeyringUnusable, KeyNotEverywhere, KeysUnheard.
        """
        ring, now_s = self._tools.keyring, self._now_s()
        async with self._one_at_a_time:

            def make(file: Keyring) -> Keyring:
                self._check_belongs(file)
                purpose = rotation.named(file, key_id).purpose
                return rotation.promoted(file, key_id, now_s, ring.active(purpose).key_id)

            if self._holders is not None:
                await self._check_everywhere(self._holders, key_id)
            changed = await self._file.change(make)
            await self._notes.promoted(changed, key_id)
            ring.take(changed)
            if self._holders is not None:
                await self._notes.done(key_id)
                await self._holders.tick()
        self._tools.events.record("key_promoted", "", caller=caller, key=key_id)
        return rotation.named(ring, key_id)

    async def retire(self, key_id: str, caller: str) -> Retired:
        """A piece of what must be done before a key is forgotten, and in the last piece forgetting it.

        Raises KeyNotFound, KeyStateWrong, KeyNeeded, KeyMadeWith, KeyringUnusable, SealBroken, KeysUnheard,
        HomeUnreachable.
        """
        async with self._one_at_a_time:
            if key_id in await self._notes.retired() and self._is_gone(key_id):
                return Retired(key_id, True, 0)
            key = rotation.retiring(self._tools.keyring, key_id)
            if key.purpose != "seal" or self._holders is not None:
                self._check_settled(key)
            if self._holders is not None:
                await self._holders.check_nowhere(key_id)
            walk = self._walks.get(key_id)
            if walk is None:
                walk = self._walks[key_id] = _Walk(self._homes(), None, await self._rows(key))
            step = {"seal": self._rewrap, "pepper": self._look, "tag": self._look}.get(key.purpose)
            if step is not None and not await self._walked(key, walk, step):
                return Retired(key_id, False, max(1, walk.remaining))
            self._walks.pop(key_id, None)
            if key.purpose == "pepper" and (realm := await self._tools.store.opaque.uses_pepper(key.number)):
                raise KeyNeeded(key.key_id, realm)
            if self._holders is not None:
                # A server that was not seen before the walk may have come back.
                await self._holders.check_nowhere(key_id)
            await self._forget(key)
        self._tools.events.record("key_retired", "", caller=caller, key=key_id)
        return Retired(key_id, True, 0)

    async def _check_everywhere(self, holders: KeyHolders, key_id: str) -> None:
        """Before a key is made with: those that live have it, and a server that comes from now on needs it."""
        file = await self._file.read()
        self._check_belongs(file)
        key = rotation.named(file, key_id)
        await holders.tick()
        await holders.check_everywhere(key)
        await self._notes.want(key_id)
        try:
            await holders.tick()
            await holders.check_everywhere(key)
        except WellspringError:
            await self._notes.done(key_id)
            raise

    async def _walked(self, key: Key, walk: _Walk, step: "Callable[[Key, _Walk], Awaitable[int]]") -> bool:
        """Whether the walk came to its end; at most ROWS_A_CALL rows further."""
        for _ in range(ROWS_A_CALL // ROWS_A_STEP):
            try:
                walk.remaining = max(0, walk.remaining - await step(key, walk))
            except KeyNeeded:
                del self._walks[key.key_id]
                raise
            if walk.resume is None:
                del walk.left[0]
            if not walk.left:
                return True
            await asyncio.sleep(0)
        return False

    async def _rows(self, key: Key) -> int:
        if key.purpose != "seal":
            return 0
        return sum([await self._tools.store.care_at(home).sealed_by(key.number) for home in self._homes()])

    async def _rewrap(self, key: Key, walk: _Walk) -> int:
        care, vault = self._tools.store.care_at(walk.left[0]), self._tools.vault
        piece = await care.rewrap(key.number, vault.rewrapped, walk.resume, ROWS_A_STEP)
        walk.resume = piece.resume
        return piece.changed

    async def _look(self, key: Key, walk: _Walk) -> int:
        piece = await self._tools.store.care_at(walk.left[0]).patrol(walk.resume, ROWS_A_STEP)
        walk.resume = piece.resume
        for stored in piece.found:
            self._check_unneeded(key, stored)
        return 0

    def _homes(self) -> list[str]:
        """The data centres that keep sessions, the own one first."""
        return [self._tools.datacentre, *self._tools.others]

    def _check_unneeded(self, key: Key, stored: Stored) -> None:
        session, tools = stored.session, self._tools
        realm = tools.realms.get(session.realm) if session is not None else None
        if session is None or realm is None or not realm.judge(stored, tools.clock.now_us()).live:
            return
        needs = _has_verifier(session, key.number, tools.clock.now_us()) if key.purpose == "pepper" else False
        if key.purpose == "tag":
            needs = session.created_us <= (key.superseded_s + SETTLED_S) * SECOND
        if needs:
            raise KeyNeeded(key.key_id, session.realm)

    def _check_settled(self, key: Key) -> None:
        left_s = key.superseded_s + SETTLED_S - self._now_s()
        if left_s > 0:
            raise KeyNeeded(key.key_id, "", left_s)

    async def _forget(self, key: Key) -> None:
        ring = self._tools.keyring
        await self._notes.forget(key.key_id, self._now_s())
        await self._file.change(lambda file: rotation.without(file, key.key_id))
        ring.take(rotation.without(ring, key.key_id))
        self._tools.vault.forget_all()

    def _check_belongs(self, file: Keyring) -> None:
        """Raises KeyringUnusable unless the file has every key that is at work."""
        there = {key.key_id: key.check for key in file.everything()}
        for key in self._tools.keyring.everything():
            if there.get(key.key_id) != key.check:
                raise KeyringUnusable(
                    f"the keyring's file lacks {key.key_id}, which the service works with, or has another key of that"
                    " name; put the newest file back"
                )

    def _is_gone(self, key_id: str) -> bool:
        return all(key.key_id != key_id for key in self._tools.keyring.everything())

    def _now_s(self) -> int:
        return self._tools.clock.now_us() // SECOND


def _has_verifier(session: Session, pepper: int, now_us: int) -> bool:
    retry = session.retry
    return (
        any(record.pepper == pepper for record in session.tokens)
        or any(old.pepper == pepper for old in session.old)
        or (retry is not None and retry.pepper == pepper and now_us < retry.until_us)
    )
