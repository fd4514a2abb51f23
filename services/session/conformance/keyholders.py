"""Servers that share a store, each with a keyring and its file: what they say of it is in the test's hands."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from services.session.conformance.harness import Service
from services.session.crypto import rotation
from services.session.crypto.keyring import NEXT, Keyring, KeyringUnusable
from services.session.domain.key_files import KeyNotes
from services.session.domain.realms import Realm
from services.session.domain.rekeying import Rekeying
from services.session.fellows import Fellowship
from services.session.keyring_file import Notes


class FileInMemory:
    """The keyring's file in a test's hands; `broken` refuses the next writes."""

    def __init__(self, ring: Keyring) -> None:
        self.ring = Keyring(ring.everything())
        self.broken = False

    async def read(self) -> Keyring:
        return self.ring

    async def change(self, make: Callable[[Keyring], Keyring]) -> Keyring:
        await asyncio.sleep(0)
        changed = make(self.ring)
        if self.broken:
            raise KeyringUnusable("the keyring cannot be written")
        self.ring = changed
        return changed

    def add(self, purpose: str) -> str:
        """A next key; its name."""
        self.ring, key = rotation.added(self.ring, purpose, 5)
        return key.key_id


class Server:
    """One of several, over a service `made` with a keyring of its own; it says what it has when it is told to."""

    def __init__(self, name: str, made: Service) -> None:
        tools: Any = made.tools
        self.made, self.tools, self.clock, self.name = made, tools, made.clock, name
        self.create, self.realm, self.uuid = made.create, made.realm, made.uuid
        self.ring: Keyring = tools.keyring
        self.file = FileInMemory(self.ring)
        self.notes: KeyNotes = Notes(tools.store)
        self.fellowship = Fellowship(
            tools.store.fellows, name, self.ring, tools.vault, self.file, self.notes, made.clock, tools.clock.now_us
        )
        self.keys = Rekeying(tools, self.file, self.notes, self.fellowship)
        object.__setattr__(tools, "shared", True)
        tools.store.fellows.may_seal = self.fellowship.holds
        tools.store.fellows.opens = lambda number: self.ring.find("seal", number) is not None
        tools.realms.check_keys = self.fellowship.check

    def make(self, purpose: str) -> int:
        """The number of the key that it makes with."""
        return self.ring.active(purpose).number

    def enters(self, method: str = "Validate") -> Realm:
        """As a call does."""
        realm: Realm = self.tools.realms.enter(self.realm().name, "app", method)
        return realm

    async def passes(self, seconds: float) -> None:
        """On its clock."""
        await self.clock.advance(seconds)  # type: ignore[attr-defined]
        await self.tools.realms.refresh()


def give(key_id: str, of: Server, to: Server) -> None:
    """The operator puts a key of one file into another, as the next one."""
    key = replace(rotation.named(of.file.ring, key_id), state=NEXT, superseded_s=0)
    to.file.ring = Keyring([*to.file.ring.everything(), key])
