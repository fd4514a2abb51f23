"""The keyring's file: whole or refused, and never shown."""

import json
import os

import pytest

from services.session.crypto import keyring
from services.session.crypto.keyring import KeyringUnusable, KeyUnknown


def test_saved_and_loaded_it_is_the_same_and_only_the_owners(tmp_path):
    path = tmp_path / "keyring.json"
    ring = keyring.generate(1000)
    keyring.save(path, ring)
    assert os.stat(path).st_mode & 0o777 == 0o600
    again = keyring.load(path)
    assert again.everything() == ring.everything() and again.fingerprint == ring.fingerprint
    assert [p.name for p in tmp_path.iterdir()] == ["keyring.json"]


def test_another_keyring_has_another_fingerprint():
    assert keyring.generate(1).fingerprint != keyring.generate(1).fingerprint


def test_a_file_that_others_may_read_is_refused(tmp_path):
    path = tmp_path / "k"
    keyring.save(path, keyring.generate(1))
    path.chmod(0o640)
    with pytest.raises(KeyringUnusable, match="chmod 600"):
        keyring.load(path)


def mutations():
    yield "not json", lambda text: "{"
    yield "empty", lambda text: ""
    yield "a list", lambda text: "[]"
    yield "no keys", lambda text: '{"format": 1, "keys": []}'

    def edit(change):
        def apply(text):
            document = json.loads(text)
            change(document)
            return json.dumps(document)

        return apply

    yield "format", edit(lambda d: d.update(format=2))
    yield "short", edit(lambda d: d["keys"][0].update(secret="AAAA"))
    yield "base64", edit(lambda d: d["keys"][0].update(secret="*" * 44))
    yield "purpose", edit(lambda d: d["keys"][0].update(purpose="other"))
    yield "number", edit(lambda d: d["keys"][0].update(number=256))
    yield "number type", edit(lambda d: d["keys"][0].update(number="1"))
    yield "missing key", edit(lambda d: d["keys"].pop())
    yield "two active", edit(lambda d: d["keys"].append({**d["keys"][0], "number": 2}))


@pytest.mark.parametrize(("what", "change"), list(mutations()), ids=lambda v: v if isinstance(v, str) else "")
def test_a_damaged_file_is_refused_and_its_secrets_not_told(tmp_path, what, change):
    path = tmp_path / "k"
    keyring.save(path, keyring.generate(1))
    text = path.read_text()
    path.write_text(change(text))
    with pytest.raises(KeyringUnusable) as error:
        keyring.load(path)
    assert not any(entry["secret"] in str(error.value) for entry in json.loads(text)["keys"])


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(KeyringUnusable, match="no keyring at"):
        keyring.load(tmp_path / "none")


def test_unknown_numbers():
    ring = keyring.generate(1)
    with pytest.raises(KeyUnknown, match="seal-9"):
        ring.get("seal", 9)
    assert ring.find("tag", 9) is None


def test_keys_are_not_printed():
    ring = keyring.generate(1)
    for key in ring.everything():
        assert key.secret.hex() not in repr(key) and repr(key.secret) not in f"{key} {ring}"
