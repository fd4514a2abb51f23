"""What somebody has who stole one thing, or two: tried with the thing itself. THREATS.md says it in words."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.session.conformance.harness import STORES, over
from services.session.conformance.verbs import refused, valid
from services.session.crypto import assertions, pseudonyms, sealing, tokens
from services.session.crypto import keyring as keyrings
from services.session.crypto.keyring import KeyUnknown
from services.session.crypto.sealing import SealBroken
from services.session.domain.model import DATA, SHARED
from services.session.store.interface import Stored

each = pytest.mark.parametrize("store", STORES)


async def stolen(s, made) -> Stored:
    """A session's row with all that lies beside it."""
    stored: Stored = await s.tools.store.read("web", made.session.handle, kinds=DATA + SHARED)
    return stored


@each
def test_the_keyring_alone_makes_tokens_that_no_session_knows(store):
    async def test(s):
        await s.create()
        _, forged = tokens.mint(s.tools.keyring, "web", s.tools.home, s.rng.randbytes)
        assert tokens.is_ours(s.tools.keyring, tokens.parse(forged)), "its tag is good"
        await refused(s, forged)

    over(store, test)


@each
def test_the_keyring_alone_signs_until_its_key_is_retired(store):
    async def test(s):
        signed = assertions.sign_bytes(s.tools.keyring, b"anything")
        key = Ed25519PrivateKey.from_private_bytes(s.tools.keyring.active("sign").derive("ed25519"))
        key.public_key().verify(signed[1], b"anything")
        later = keyrings.generate(1)
        assert signed[0] == later.active("sign").key_id and later.active("sign") != s.tools.keyring.active("sign")
        assert assertions.key_set(later) != assertions.key_set(s.tools.keyring)

    over(store, test)


@each
def test_the_database_with_the_keyring_reads_what_is_shared_and_nothing_of_the_bearers(store):
    async def test(s):
        made = await s.create("alice", data={"cart": b"private"}, shared={"flag": b"shared"})
        ring, row = s.tools.keyring, await stolen(s, made)
        session = row.session
        found = await s.tools.vault.subject_key("web", session.subject)
        subject_key, handle = found[0], session.handle
        opened = {}
        for item in row.items.values():
            for key in (subject_key, sealing.shared_key(subject_key, "web", handle)):
                try:
                    name, value = s.tools.vault.open(key, "web", handle, item)
                    opened[name] = value
                except SealBroken:
                    pass
        assert opened == {"flag": b"shared"}, "the shared compartment opens, the bearer's does not"
        inner = sealing.unseal(subject_key, session.tokens[0].wrapped, sealing.place("wrapped-data-key", "web", handle))
        for guess in (bytes(32), subject_key, session.tokens[0].verifier, ring.active("seal").secret):
            with pytest.raises(SealBroken):
                where = sealing.place("data-key", "web", handle)
                sealing.unseal(sealing.bearer_key(guess, "web", handle), inner, where)
        assert session.subject == pseudonyms.pseudonym(ring, "web", "alice"), "a guessed name can be confirmed"
        for secret in (session.tokens[0].verifier, subject_key, inner[:32]):
            forged = tokens._make(ring, "web", s.tools.home, s.rng.randbytes(16), secret)[1]
            await refused(s, forged)
        await valid(s, made.token)

    over(store, test)


@each
def test_the_database_alone_opens_nothing(store):
    async def test(s):
        made = await s.create("alice", data={"cart": b"private"}, shared={"flag": b"shared"})
        row = await stolen(s, made)
        sealed = await s.tools.store.subject_key("web", row.session.subject)
        thief = keyrings.generate(1)
        where = sealing.place("subject-key", "web", row.session.subject)
        with pytest.raises((SealBroken, KeyUnknown)):
            sealing.unseal_by_keyring(thief, sealed, where)
        assert pseudonyms.pseudonym(thief, "web", "alice") != row.session.subject, "nor can a name be guessed"

    over(store, test)


@each
def test_a_token_opens_its_own_session_and_no_other_of_its_subject(store):
    async def test(s):
        one = await s.create("alice", data={"cart": b"one"})
        two = await s.create("alice", data={"cart": b"two"})
        got = await valid(s, one.token, data_keys=["*"])
        assert got.data["cart"].value == b"one"
        token = tokens.parse(one.token)
        found = await s.tools.vault.subject_key("web", two.session.subject)
        with pytest.raises(SealBroken):
            s.tools.vault.unwrap(two.session.tokens[0].wrapped, token, found[0])

    over(store, test)
