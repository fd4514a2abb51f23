"""The servers that share a store, as far as keys go: which of them live, what each opens with and what it makes with.

Each of them says so again and again, in a row that goes when it is not said any more. A key is promoted when every one
that lives opens with it, and retired when none makes with it. Who could not say it for LEASE_S serves
nobody, long before its row goes, until it has said it again and has looked at what was promoted and retired meanwhile.
So whoever is not seen serves nobody, and a server that comes begins by looking. Where there are several data centres
all of them are asked, each by its own nodes: while one cannot be, no key changes.

What was promoted and retired is told by what the data knows of its keys; each server changes its own file by it.
"""

import json
import logging
from collections.abc import Callable
from typing import Any, Final

from libs.clock.clock import Clock
from libs.errors.errors import Unavailable
from libs.telemetry.logs import fields
from services.session.crypto import rotation
from services.session.crypto.keyring import Key, Keyring, KeyringUnusable
from services.session.domain import abilities
from services.session.domain.errors import HomeUnreachable, KeyMadeWith, KeyNotEverywhere, KeysUnheard
from services.session.domain.key_files import KeyNotes, KeyringFile
from services.session.domain.vault import Vault
from services.session.store.interface import Fellows

log = logging.getLogger(__name__)

BEAT_S: Final = 2.0
LEASE_S: Final = 60.0
ROW_S: Final = 180
"""Of a store whose clocks may be apart from a server's by no more than what is between."""


class Fellowship:
    """See `domain.key_files.KeyHolders`: one server's part in it, under the `name` that operators read. `now_us`:
    microseconds since 1970; `clock` measures leases."""

    def __init__(
        self,
        rows: Fellows,
        name: str,
        ring: Keyring,
        vault: Vault,
        file: KeyringFile,
        notes: KeyNotes,
        clock: Clock,
        now_us: Callable[[], int],
    ) -> None:
        self._rows = rows
        self._name = name
        self._ring = ring
        self._vault = vault
        self._file = file
        self._notes = notes
        self._clock = clock
        self._now_us = now_us
        self._until_s = clock.monotonic()
        ring.opens_next = True

    def holds(self) -> bool:
        """Whether this server may make and serve: nothing was promoted or retired without it."""
        return self._clock.monotonic() < self._until_s

    def check(self) -> None:
        """Raises KeysUnheard unless it holds."""
        if not self.holds():
            raise KeysUnheard("this server has not heard for a while which keys are in use", retry_after_s=BEAT_S)

    async def run(self) -> None:
        """Says it for ever. Where that fails it goes on trying."""
        failed = False
        while True:
            await self._clock.sleep(BEAT_S)
            try:
                await self.tick()
                failed = False
            except (Unavailable, KeyringUnusable) as error:
                if not failed:
                    log.error("keys cannot be agreed on", extra=fields(reason=error.reason, problem=error.message))
                failed = True

    async def join(self) -> None:
        """The first time, before anybody is served: whoever promotes a key now may not have seen this server.

        Raises as `tick`, and KeyringUnusable for a key that is being promoted as well.
        """
        await self.tick()
        lacking = await self._notes.wanted() - self._own()
        if lacking:
            self._until_s = self._clock.monotonic()
            raise _lacks(lacking)

    async def tick(self) -> None:
        """Once: takes in what was promoted and retired, says what it has, and looks whether that is enough.

        Raises Unavailable, and KeyringUnusable when the file lacks a key that the data is written with.
        """
        began_s = self._clock.monotonic()
        await self._take()
        said: dict[str, Any] = {
            "keys": {key.key_id: key.check for key in self._ring.everything()},
            "active": [self._ring.active(purpose).key_id for purpose in rotation.ROTATED],
            "abilities": abilities.ALL,
        }
        await self._rows.say(self._name, json.dumps(said).encode(), ROW_S)
        # After it was said: whoever promotes a key notes that, and then looks who lives.
        used = await self._notes.used()
        if lacking := used - self._own():
            raise _lacks(lacking)
        if not used.issuperset(said["active"]):
            await self._notes.remember(self._ring)
        self._until_s = began_s + LEASE_S

    async def check_everywhere(self, key: Key) -> None:
        """See KeyHolders.check_everywhere."""
        without = [name for name, said in (await self._said()).items() if said["keys"].get(key.key_id) != key.check]
        if without:
            raise KeyNotEverywhere(key.key_id, without)

    async def check_nowhere(self, key_id: str) -> None:
        """See KeyHolders.check_nowhere."""
        makers = [name for name, said in (await self._said()).items() if key_id in said["active"]]
        if makers:
            raise KeyMadeWith(key_id, makers)

    async def _said(self) -> dict[str, dict[str, Any]]:
        try:
            rows = await self._rows.said()
        except HomeUnreachable as error:
            home = error.metadata["home"]
            raise KeysUnheard(
                f"which keys the servers of the data centre {home!r} have cannot be read: no key changes meanwhile",
                retry_after_s=error.retry_after_s,
                metadata={"datacentre": home},
            ) from None
        return {name: json.loads(said) for name, said in rows.items()}

    async def _take(self) -> None:
        """The file, with what others promoted and retired done in it as well, becomes the keyring at work."""
        file = await self._file.read()
        retired = await self._notes.retired(self._own().union(key.key_id for key in file.everything()))
        used = await self._notes.used()
        now_s = self._now_us() // 1_000_000

        def make(file: Keyring) -> Keyring:
            for key_id in retired:
                file = rotation.without(file, key_id)
            for purpose in rotation.ROTATED:
                own = [key for key in file.everything() if key.purpose == purpose and key.key_id in used]
                newest = max(own, key=lambda key: key.number, default=None)
                if newest is not None and newest.number > file.active(purpose).number:
                    file = rotation.promoted(file, newest.key_id, now_s, self._ring.active(purpose).key_id)
            return file

        if make(file).everything() != file.everything():
            file = await self._file.change(make)
        there = {key.key_id: key.check for key in file.everything()}
        for key in self._ring.everything():
            if key.key_id not in retired and there.get(key.key_id, key.check) != key.check:
                raise KeyringUnusable(f"the keyring's file has another key of the name {key.key_id}; put it back")
        # One that went from the file and was not retired stays at work, until it is put back.
        kept = [k for k in self._ring.everything() if k.key_id not in there and k.key_id not in retired]
        after = Keyring([*file.everything(), *kept])
        if after.everything() != self._ring.everything():
            self._ring.take(after)
            self._vault.forget_all()
            log.info("the keyring at work has changed", extra=fields(keys=len(after.everything())))

    def _own(self) -> set[str]:
        return {key.key_id for key in self._ring.everything()}


def _lacks(key_ids: set[str]) -> KeyringUnusable:
    return KeyringUnusable(
        f"the keyring lacks {', '.join(sorted(key_ids))}, which other servers of the store make with: put the newest"
        " file in the place of this one; nobody is served here meanwhile"
    )
