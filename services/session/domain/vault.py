"""Opens and seals what belongs to a session: data under the bearer's key, the shared compartment under the subject's.

Here the crypto module meets the records; which keys exist and where they are kept is decided nowhere else.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from services.session.crypto import pseudonyms, sealing, tokens
from services.session.crypto.keyring import Keyring, KeyUnknown
from services.session.crypto.sealing import SealBroken
from services.session.crypto.tokens import Token
from services.session.domain.model import Item, Session
from services.session.store.interface import Store, SubjectKey

CACHED_KEYS: Final = 4096
"""Subjects' keys remembered at once, in their sealed form: memory holds no more than the store does."""


class Vault:
    """The keyring at work. `random(n)` gives n unpredictable bytes. `alone`: no other server changes the store, so that
    sealed keys are remembered."""

    def __init__(self, keyring: Keyring, store: Store, random: Callable[[int], bytes], *, alone: bool = True) -> None:
        self._keyring = keyring
        self._remembers = alone and not store.keys_apart
        self._store = store
        self._random = random
        self._sealed: OrderedDict[tuple[str, bytes], bytes] = OrderedDict()
        self._destroyed = 0

    # Tokens

    def verifier(self, pepper: int, token: Token) -> bytes | None:
        """What a token's record must say, under a pepper; None when the keyring has that pepper no more."""
        key = self._keyring.find("pepper", pepper)
        return None if key is None else tokens.verifier(key, token.realm, token.handle, token.secret)

    def new_verifier(self, token: Token) -> tuple[int, bytes]:
        """The active pepper's number, and the verifier under it."""
        key = self._keyring.active("pepper")
        return key.number, tokens.verifier(key, token.realm, token.handle, token.secret)

    # Subjects' keys

    async def session_key(self, session: Session) -> tuple[bytes, SubjectKey] | None:
        """The key of a session's subject that the session was made with, open and sealed; None when it is no more."""
        return await self.subject_key(session.realm, session.subject, home=session.home, session=session)

    async def new_session_key(self, realm: str, subject: bytes, *, home: str = "") -> tuple[bytes, SubjectKey]:
        """A key of the subject for a session that it is to have: the subject's one, or a fresh one, as the store keeps
        them."""
        if self._store.keys_apart:
            return self._fresh_key(realm, subject)
        return await self.ensured_key(realm, subject, home=home)

    async def subject_key(
        self, realm: str, subject: bytes, *, home: str = "", cached: bool = True, session: Session | None = None
    ) -> tuple[bytes, SubjectKey] | None:
        """A subject's key, open and sealed, of sessions of this home (the own one when it is not named), or of this
        session; None when there is none (any more)."""
        sealed = self._sealed.get((realm, subject)) if cached else None
        while True:
            destroyed = self._destroyed
            if sealed is None:
                sealed = await self._store.subject_key(realm, subject, home, session)
                if sealed is None:
                    return None
                # What was read before a destruction and arrives after it is not remembered.
                if destroyed == self._destroyed:
                    self._remember(realm, subject, sealed)
            try:
                return self._unsealed(realm, subject, sealed), SubjectKey(sealed, fresh=False)
            except KeyUnknown:
                # It was sealed anew, and the keyring's key of before retired, between the read and now.
                if destroyed == self._destroyed:
                    raise
                sealed = None

    def rewrapped(self, realm: str, subject: bytes, sealed: bytes) -> bytes:
        """A subject's key sealed anew by the active key. Raises SealBroken, KeyUnknown."""
        where = sealing.place("subject-key", realm, subject)
        return sealing.seal_by_keyring(self._keyring, self._unsealed(realm, subject, sealed), where, self._random)

    def _unsealed(self, realm: str, subject: bytes, sealed: bytes) -> bytes:
        return sealing.unseal_by_keyring(self._keyring, sealed, sealing.place("subject-key", realm, subject))

    async def ensured_key(self, realm: str, subject: bytes, *, home: str = "") -> tuple[bytes, SubjectKey]:
        """As `subject_key`, read anew; a fresh one, for the store to keep, when there is none."""
        found = await self.subject_key(realm, subject, home=home, cached=False)
        if found is not None:
            return found
        # The store lets go of the key of a subject without sessions: what is remembered of it opens nothing new.
        self.forget(realm, subject)
        return self._fresh_key(realm, subject)

    def _fresh_key(self, realm: str, subject: bytes) -> tuple[bytes, SubjectKey]:
        key = self._random(sealing.KEY_BYTES)
        return key, self.sealed_key(realm, subject, key)

    def sealed_key(self, realm: str, subject: bytes, key: bytes) -> SubjectKey:
        """A key as one that the store is to keep for a subject."""
        where = sealing.place("subject-key", realm, subject)
        return SubjectKey(sealing.seal_by_keyring(self._keyring, key, where, self._random), fresh=True)

    def forget(self, realm: str, subject: bytes) -> None:
        """Forgets a subject's key, which is not in the store any more."""
        self._destroyed += 1
        self._sealed.pop((realm, subject), None)

    def forget_all(self) -> None:
        """Forgets every sealed form: another key of the keyring seals them now."""
        self._destroyed += 1
        self._sealed.clear()

    # Data keys

    def new_data_key(self) -> bytes:
        """32 random bytes."""
        return self._random(sealing.KEY_BYTES)

    def wrap(self, data_key: bytes, token: Token, subject_key: bytes) -> bytes:
        """The data key for the bearer of this token, as long as the subject's key lives."""
        return sealing.wrap_data_key(data_key, token.secret, subject_key, token.realm, token.handle, self._random)

    def unwrap(self, wrapped: bytes, token: Token, subject_key: bytes) -> bytes:
        """Raises SealBroken."""
        return sealing.unwrap_data_key(wrapped, token.secret, subject_key, token.realm, token.handle)

    def shared_key(self, subject_key: bytes, realm: str, handle: str) -> bytes:
        """The key of the shared compartment."""
        return sealing.shared_key(subject_key, realm, handle)

    # Values

    def item_key(self, kind: bytes, realm: str, handle: str, name: str) -> bytes:
        """Under which key the store keeps a value: its name is not told."""
        return kind + pseudonyms.item_name(self._keyring, realm, handle, name)

    def seal(self, key: bytes, realm: str, handle: str, item: bytes, version: int, name: str, value: bytes) -> Item:
        """A value with its name, bound to session, place and version."""
        text = name.encode()
        where = sealing.place("item", realm, handle, item, version)
        return Item(item, version, sealing.seal(key, bytes((len(text),)) + text + value, where, self._random))

    def open(self, key: bytes, realm: str, handle: str, item: Item) -> tuple[str, bytes]:
        """Name and value. Raises SealBroken for one that was damaged or moved."""
        plain = sealing.unseal(key, item.sealed, sealing.place("item", realm, handle, item.key, item.version))
        if not plain:
            raise SealBroken("a sealed value is empty")
        end = 1 + plain[0]
        return plain[1:end].decode(), plain[end:]

    def _remember(self, realm: str, subject: bytes, sealed: bytes) -> None:
        if not self._remembers:
            return
        self._sealed[realm, subject] = sealed
        if len(self._sealed) > CACHED_KEYS:
            self._sealed.popitem(last=False)


def size_bytes(item: Item) -> int:
    """What a value counts for against its realm's limit: its name and itself."""
    return len(item.sealed) - sealing.OVERHEAD_BYTES - 1
