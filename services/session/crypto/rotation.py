"""What a rotation makes of a keyring: a key is added as the next one, becomes the active one, and is forgotten.

    next ──promoted──▶ active ──another is promoted──▶ retiring ──without──▶ gone

The file is changed under a lock beside it, so that the server and an operator's tool never lose each other's change.
"""

import fcntl
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from libs.errors.errors import FailedPrecondition, NotFound
from services.session.crypto import keyring as keyrings
from services.session.crypto.keyring import (
    ACTIVE,
    KEY_BYTES,
    MAX_KEY_NUMBER,
    NEXT,
    RETIRING,
    Key,
    Keyring,
    KeyringUnusable,
)

FOREVER: Final = ("pseudonym", "pairwise")
"""Names in the store and names that callers keep are made with these: another key would make strangers of all."""
ROTATED: Final = ("tag", "pepper", "seal", "sign")


class KeyNotFound(NotFound):
    """The keyring has no key of this name."""

    default_reason = "KEY_NOT_FOUND"

    def __init__(self, key_id: str) -> None:
        super().__init__(f"the keyring holds no key {key_id[:64]!r}", metadata={"key_id": key_id[:64]})


class KeyStateWrong(FailedPrecondition):
    """A key that is not in the state for what is asked of it."""

    default_reason = "KEY_STATE_WRONG"


def named(keyring: Keyring, key_id: str) -> Key:
    """The key of a name such as "seal-2", whatever its state. Raises KeyNotFound."""
    for key in keyring.everything():
        if key.key_id == key_id:
            return key
    raise KeyNotFound(key_id)


def added(keyring: Keyring, purpose: str, now_s: int) -> tuple[Keyring, Key]:
    """With a new random key of the purpose, the next one. Raises KeyStateWrong."""
    if purpose not in ROTATED:
        raise KeyStateWrong(f"a key for {purpose[:32]!r} cannot be added; {', '.join(ROTATED)} are allowed")
    own = [key for key in keyring.everything() if key.purpose == purpose]
    if waiting := [key.key_id for key in own if key.state == NEXT]:
        raise KeyStateWrong(f"{waiting[0]} is the next key already; promote it first")
    number = max(key.number for key in own) + 1
    if number > MAX_KEY_NUMBER:
        raise KeyStateWrong(f"there were {MAX_KEY_NUMBER} keys for {purpose}: no number is left for another")
    key = Key(purpose, number, NEXT, secrets.token_bytes(KEY_BYTES), now_s)
    return Keyring([*keyring.everything(), key]), key


def promoted(keyring: Keyring, key_id: str, now_s: int, making: str = "") -> Keyring:
    """With this key as the active one; the one of before opens what it made until it is retired.

    `making`: the key that makes what is new until now, whatever the file says: it is superseded now and not before. So
    asking again is harmless, also when the first time stopped half way. Raises KeyNotFound, KeyStateWrong.
    """
    key = named(keyring, key_id)
    if key.purpose in FOREVER:
        raise KeyStateWrong(f"{key_id} is one for ever: what is stored is found by it")
    if key.state == RETIRING:
        raise KeyStateWrong(f"{key_id} was the active key before, and is retiring; add a new one")
    changed = []
    for other in keyring.everything():
        if other.key_id == key_id:
            other = replace(other, state=ACTIVE)
        elif other.purpose == key.purpose and (other.state == ACTIVE or other.key_id == making):
            other = replace(other, state=RETIRING, superseded_s=now_s)
        changed.append(other)
    return Keyring(changed)


def retiring(keyring: Keyring, key_id: str) -> Key:
    """The key, which may be retired when nothing needs it. Raises KeyNotFound, KeyStateWrong."""
    key = named(keyring, key_id)
    if key.purpose in FOREVER:
        raise KeyStateWrong(f"{key_id} is one for ever: what is stored is found by it")
    if key.state == ACTIVE:
        raise KeyStateWrong(f"{key_id} is the active key; promote another one first")
    if key.state == NEXT:
        raise KeyStateWrong(f"{key_id} was never active; nothing is to be retired")
    return key


def without(keyring: Keyring, key_id: str) -> Keyring:
    """Without this key; one that is gone already stays so."""
    return Keyring([key for key in keyring.everything() if key.key_id != key_id])


def change(path: Path, make: Callable[[Keyring], Keyring]) -> Keyring:
    """Reads the file, and writes what `make` makes of it if that differs.

    Raises KeyringUnusable, and what `make` raises.
    """
    with _locked(path):
        before = keyrings.load(path)
        after = make(before)
        if after.everything() != before.everything():
            try:
                keyrings.save(path, after)
            except OSError as error:
                what = f"the keyring at {path} cannot be written ({type(error).__name__}); nothing was changed"
                raise KeyringUnusable(what) from None
        return after


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = path.with_name(f".{path.name}.lock")
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise KeyringUnusable(f"beside the keyring at {path} nothing can be written ({type(error).__name__})") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
