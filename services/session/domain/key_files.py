"""Where keys lie, as the domain sees it: the keyring's file, what the data knows of its keyring, who else holds one."""

from collections.abc import Callable, Collection
from typing import Protocol

from services.session.crypto.keyring import Key, Keyring


class KeyringFile(Protocol):
    """The file that the keyring lies in. All raise KeyringUnusable."""

    async def read(self) -> Keyring:
        """As it is now: an operator may have added a next key."""
        ...

    async def change(self, make: Callable[[Keyring], Keyring]) -> Keyring:
        """Written durably as `make` says, under a lock against other writers."""
        ...


class KeyNotes(Protocol):
    """What the data knows of its keyring: which keys it was written with, and which were retired. Durable. What is
    about to be made with, was promoted or retired is noted in every data centre: KeysUnheard while one is away."""

    async def remember(self, ring: Keyring) -> None:
        """The data is, or will be, written with these keys."""
        ...

    async def promoted(self, ring: Keyring, key_id: str) -> None:
        """Of these keys that one is the active one from now on. Raises KeysUnheard."""
        ...

    async def forget(self, key_id: str, now_s: int) -> None:
        """Nothing needs this key any more. Raises KeysUnheard."""
        ...

    async def used(self) -> set[str]:
        """Keys that were ever the active one, and were not retired."""
        ...

    async def want(self, key_id: str) -> None:
        """This key is about to become the active one. Raises KeysUnheard."""
        ...

    async def done(self, key_id: str) -> None:
        """It has become that, or will not."""
        ...

    async def wanted(self) -> set[str]:
        """Keys that are about to become active."""
        ...

    async def retired(self, among: Collection[str] = ()) -> dict[str, int]:
        """Keys that were retired, and when (seconds since 1970): all that are told of, and those `among` these."""
        ...


class KeyHolders(Protocol):
    """The servers that share a store, as far as they hold keys."""

    async def tick(self) -> None:
        """This server says what it holds. Raises Unavailable, KeyringUnusable."""
        ...

    async def check_everywhere(self, key: Key) -> None:
        """Raises KeyNotEverywhere unless every server that lives opens with this very key, and KeysUnheard where not
        all of them can be asked."""
        ...

    async def check_nowhere(self, key_id: str) -> None:
        """Raises KeyMadeWith while a server that lives makes with this key, and KeysUnheard where not all of them can
        be asked."""
        ...
