"""Data and keyring belong together, or the server does not start and nothing is changed."""

import asyncio
import json

import pytest

from services.session.conformance.harness import QUICK
from services.session.crypto import keyring as keyrings
from services.session.crypto import rotation
from services.session.crypto.keyring import ACTIVE, RETIRING, Key, Keyring, KeyringUnusable
from services.session.keyring_file import open_keyring
from services.session.store.embedded import EmbeddedStore


def start(path, *, create=True):
    async def main():
        store = EmbeddedStore.open(path / "data", QUICK)
        try:
            return await open_keyring(path / "keys" / "keyring.json", store, 5, create=create)
        finally:
            await store.close()

    return asyncio.run(main())


def refused(path, match, **kwargs):
    file = path / "keys" / "keyring.json"
    before = file.read_bytes() if file.exists() else None
    with pytest.raises(KeyringUnusable, match=match):
        start(path, **kwargs)
    assert (file.read_bytes() if file.exists() else None) == before


def test_a_first_start_makes_a_keyring_only_when_told(tmp_path):
    refused(tmp_path, "set create_keyring", create=False)
    ring = start(tmp_path)
    assert (tmp_path / "keys" / "keyring.json").stat().st_mode & 0o777 == 0o600
    assert start(tmp_path, create=False).fingerprint == ring.fingerprint


def test_a_keyring_that_is_gone_is_not_made_anew_over_data(tmp_path):
    start(tmp_path)
    (tmp_path / "keys" / "keyring.json").unlink()
    refused(tmp_path, "there is data, and the keyring that it was written with is not at")


def test_another_keyring_is_refused(tmp_path):
    start(tmp_path)
    keyrings.save(tmp_path / "keys" / "keyring.json", keyrings.generate(1))
    refused(tmp_path, "not the one that the data was written with")


def test_a_keyring_older_than_the_data_is_refused(tmp_path):
    path = tmp_path / "keys" / "keyring.json"
    old = start(tmp_path)
    seal = old.active("seal")
    others = [key for key in old.everything() if key.purpose != "seal"]
    retiring = Key("seal", 1, RETIRING, seal.secret, 1)
    keyrings.save(path, Keyring([*others, retiring, Key("seal", 2, ACTIVE, b"n" * 32, 9)]))
    start(tmp_path)
    keyrings.save(path, old)
    refused(tmp_path, "older than the data: it lacks seal-2")


def test_a_keyring_from_before_a_promotion_is_refused(tmp_path):
    path = tmp_path / "keys" / "keyring.json"
    start(tmp_path)
    waiting = rotation.change(path, lambda ring: rotation.added(ring, "seal", 6)[0])
    start(tmp_path)
    rotation.change(path, lambda ring: rotation.promoted(ring, "seal-2", 7))
    assert start(tmp_path).active("seal").number == 2
    keyrings.save(path, waiting)
    refused(tmp_path, "was written with seal-2: in this file that is a next key still")


def test_a_keyring_without_a_key_that_was_not_retired_is_refused(tmp_path):
    path = tmp_path / "keys" / "keyring.json"
    start(tmp_path)
    rotation.change(path, lambda ring: rotation.promoted(rotation.added(ring, "seal", 6)[0], "seal-2", 7))
    start(tmp_path)
    rotation.change(path, lambda ring: rotation.without(ring, "seal-1"))
    refused(tmp_path, "it lacks seal-1")


def test_a_key_made_retiring_by_hand_was_in_use_until_now(tmp_path):
    path = tmp_path / "keys" / "keyring.json"
    start(tmp_path)
    rotation.change(path, lambda ring: rotation.promoted(rotation.added(ring, "tag", 6)[0], "tag-2", 0))
    assert rotation.named(start(tmp_path), "tag-1").superseded_s == 5


@pytest.mark.parametrize("text", ["", "{}", "not json", json.dumps({"format": 1, "keys": []})])
def test_a_damaged_keyring_is_refused(tmp_path, text):
    start(tmp_path)
    (tmp_path / "keys" / "keyring.json").write_text(text)
    refused(tmp_path, "keyring")
