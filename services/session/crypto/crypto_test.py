"""Tokens and seals against forgers, thieves and movers of rows."""

import hmac
import io
import os
import random
import re
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.session.crypto import keyring, pseudonyms, sealing, tokens
from services.session.crypto.keyring import ACTIVE, Key
from services.session.crypto.randomness import Pool
from services.session.crypto.sealing import SealBroken

RING = keyring.generate(1)


def test_ses_01_tokens_are_unique_and_look_random():
    made = [tokens.mint(RING, "web", 1, os.urandom)[0] for _ in range(20_000)]
    assert len({t.id for t in made}) == len({t.secret for t in made}) == len(made)
    ones = sum(int.from_bytes(t.secret, "big").bit_count() for t in made) / (len(made) * 256)
    assert abs(ones - 0.5) < 0.002  # ten standard deviations


def test_ses_01_all_randomness_comes_from_the_source_given():
    asked = []

    def source(n):
        asked.append(n)
        return bytes(n)

    token, text = tokens.mint(RING, "web", 1, source)
    assert asked == [16, 32] and token.id == bytes(16) and token.secret == bytes(32)
    assert tokens.parse(text) == token


@given(st.from_regex(tokens.REALM_PATTERN, fullmatch=True), st.integers(0, 65535))
def test_a_token_says_what_went_in(realm, home):
    token, text = tokens.mint(RING, realm, home, os.urandom)
    parsed = tokens.parse(text)
    assert parsed == token and (parsed.realm, parsed.home) == (realm, home)
    assert tokens.is_ours(RING, parsed) and re.fullmatch(rb"wss_[a-z0-9]+_[\w-]+\.[\w-]+", text)
    again, text2 = tokens.remint(RING, token, os.urandom)
    assert again.handle == token.handle and again.secret != token.secret and text2 != text


def test_any_one_character_changed_is_not_a_token():
    _, text = tokens.mint(RING, "web", 1, os.urandom)
    rng = random.Random(7)
    for at in range(len(text)):
        other = bytes([rng.choice([c for c in b"abcXYZ019_-." if c != text[at]])])
        with pytest.raises(tokens.Malformed):
            tokens.parse(text[:at] + other + text[at + 1 :])
    for cut in range(len(text)):
        with pytest.raises(tokens.Malformed):
            tokens.parse(text[:cut])


@given(st.binary(max_size=300))
def test_anything_else_is_malformed(data):
    with pytest.raises(tokens.Malformed):
        tokens.parse(data)


def test_a_token_has_one_spelling():
    _, text = tokens.mint(RING, "web", 1, os.urandom)
    for other in (text + b"=", text + b"\n", b" " + text, text.replace(b"_", b"/"), text.upper()):
        with pytest.raises(tokens.Malformed):
            tokens.parse(other)


def test_a_forgery_with_a_right_checksum_is_told_without_a_read():
    forger = keyring.generate(1)
    for _ in range(100):
        _, text = tokens.mint(forger, "web", 1, os.urandom)
        assert not tokens.is_ours(RING, tokens.parse(text))
    token, _ = tokens.mint(RING, "web", 1, os.urandom)
    moved, _ = tokens._make(forger, "admin", 1, token.id, token.secret)
    assert not tokens.is_ours(RING, moved)


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=200))
def test_a_keys_mac_is_hmac_sha_256(secret, text):
    key = Key("pepper", 1, ACTIVE, secret, 0)
    assert key.mac(text) == key.mac(text) == hmac.digest(secret, text, "sha256")


def test_ses_01_pooled_bytes_are_the_sources_and_each_is_given_once():
    taken, source = [], io.BytesIO(os.urandom(1 << 20))
    pool = Pool(source.read)
    for size in [12, 32, 1, 1024, 0, 5000, 31] * 20:
        taken.append(pool(size))
        assert len(taken[-1]) == size
    whole = source.getvalue()
    places = [(whole.index(piece), len(piece)) for piece in taken if len(piece) > 8]
    covered = [at + n for at, size in places for n in range(size)]
    assert len(covered) == len(set(covered)), "a byte was given twice"


def test_what_a_pool_gave_it_has_no_more():
    pool = Pool(lambda n: b"\xff" * n)
    for _ in range(3):
        pool(32)
    assert pool._left.count(0) == 96


def test_threads_and_children_do_not_share_what_a_pool_gives():
    pool, given_out = Pool(os.urandom), []

    def take():
        given_out.extend(pool(16) for _ in range(5_000))

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(given_out)) == len(given_out) == 20_000
    readable, writable = os.pipe()
    child = os.fork()
    if not child:
        os.write(writable, pool(16))
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(readable, 16) != pool(16)


def test_verifiers_depend_on_everything():
    seen = {
        tokens.verifier(pepper, realm, handle, secret)
        for pepper in (Key("pepper", 1, ACTIVE, b"p" * 32, 0), Key("pepper", 1, ACTIVE, b"q" * 32, 0))
        for realm in ("a", "b")
        for handle in ("h", "i")
        for secret in (b"s" * 32, b"t" * 32)
    }
    assert len(seen) == 16


@pytest.mark.parametrize("size", [0, 1, 255, 256, 70_000])
def test_a_place_says_how_long_its_parts_are(size):
    part = "p" * size
    assert sealing.place("a", part, 7) == b"\0\0\0\1a" + size.to_bytes(4, "big") + part.encode() + b"\0\0\0\0017"
    assert sealing.place(part.encode()) == sealing.place(part)


def test_ses_15_a_seal_opens_only_where_it_belongs():
    key = os.urandom(32)
    where = sealing.place("data", "web", "handle", "cart", 3)
    sealed = sealing.seal(key, b"value", where, os.urandom)
    assert sealing.unseal(key, sealed, where) == b"value"
    elsewhere = [("data", "web", "handle", "cart", 4), ("data", "web", "handle", "car", "t3"), ("data", "web", "other")]
    for parts in elsewhere:
        with pytest.raises(SealBroken):
            sealing.unseal(key, sealed, sealing.place(*parts))
    for at in range(len(sealed)):
        with pytest.raises(SealBroken):
            sealing.unseal(key, sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :], where)
    for cut in range(len(sealed)):
        with pytest.raises(SealBroken):
            sealing.unseal(key, sealed[:cut], where)


@given(st.lists(st.binary(max_size=5), max_size=4), st.lists(st.binary(max_size=5), max_size=4))
def test_places_are_alike_only_when_their_parts_are(a, b):
    assert (sealing.place(*a) == sealing.place(*b)) == (a == b)


def test_the_data_key_needs_both_the_bearer_and_the_subjects_key():
    data_key, secret, subject_key = os.urandom(32), os.urandom(32), os.urandom(32)
    wrapped = sealing.wrap_data_key(data_key, secret, subject_key, "web", "h", os.urandom)
    assert sealing.unwrap_data_key(wrapped, secret, subject_key, "web", "h") == data_key
    for args in [
        (os.urandom(32), subject_key, "web", "h"),
        (secret, os.urandom(32), "web", "h"),
        (secret, subject_key, "app", "h"),
        (secret, subject_key, "web", "i"),
    ]:
        with pytest.raises(SealBroken):
            sealing.unwrap_data_key(wrapped, *args)


def test_the_keyring_seals_with_its_active_key_and_opens_with_older_ones():
    where = sealing.place("subject-key", "web", b"p")
    sealed = sealing.seal_by_keyring(RING, b"k", where, os.urandom)
    old = [key for key in RING.everything() if key.purpose != "seal"]
    one = RING.active("seal")
    retiring = keyring.Key("seal", 1, keyring.RETIRING, one.secret, 1)
    newer = keyring.Keyring([*old, retiring, keyring.Key("seal", 2, keyring.ACTIVE, os.urandom(32), 2)])
    assert sealing.unseal_by_keyring(newer, sealed, where) == b"k"
    assert sealing.sealing_key_number(sealing.seal_by_keyring(newer, b"k", where, os.urandom)) == 2
    without = keyring.Keyring([*old, keyring.Key("seal", 2, keyring.ACTIVE, os.urandom(32), 2)])
    with pytest.raises(keyring.KeyUnknown):
        sealing.unseal_by_keyring(without, sealed, where)
    with pytest.raises(SealBroken):
        sealing.unseal_by_keyring(RING, b"", where)


def test_ses_19_callers_cannot_match_subjects_with_each_other():
    stored = pseudonyms.pseudonym(RING, "web", "alice")
    assert stored != pseudonyms.pseudonym(RING, "app", "alice")
    assert stored == pseudonyms.pseudonym(RING, "web", "alice")
    seen = {pseudonyms.pairwise(RING, "web", caller, stored) for caller in ("a", "b", "c")}
    assert len(seen) == 3 and "alice" not in str(seen)
