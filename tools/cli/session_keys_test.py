"""`wellspring session keys` as it is typed, over a running service: a whole rotation, and what is refused."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from services.session.conformance.process import Process
from tools.cli.session import session as session_group
from tools.cli.session_keys import keys


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Process]:
    server = Process(tmp_path)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def run(server: Process, *words: str) -> tuple[int, str]:
    where = ["--address", f"session={server.address}", "--timeout", "60"]
    done = CliRunner().invoke(keys, [*words, *where], standalone_mode=False)
    return getattr(done.exception, "exit_code", done.exit_code), done.output + str(done.exception or "")


def test_a_rotation_from_the_command_line(place: Process) -> None:
    file = place.path / "keyring.json"
    status, text = run(place, "add", "seal", "--keyring", str(file))
    assert status == 0 and "wellspring session keys promote seal-2" in text
    secrets = [entry["secret"] for entry in json.loads(file.read_text())["keys"]]
    assert run(place, "promote", "seal-2") == (0, "seal-2 is the active key\n")
    status, text = run(place, "retire", "seal-1", "--json")
    assert status == 0
    assert json.loads(text.splitlines()[-1]) | {"create_time": ""} == {
        "key_id": "seal-1",
        "purpose": "keyring",
        "state": "retired",
        "create_time": "",
        "remaining": 0,
    }
    status, text = run(place, "list", "--json")
    states = {key["key_id"]: key["state"] for key in map(json.loads, text.splitlines())}
    assert (states["seal-1"], states["seal-2"], states["tag-1"]) == ("retired", "active", "active")
    assert not any(secret in text for secret in secrets)


def test_one_data_centre_cannot_be_shut_out(place: Process) -> None:
    where = ["--address", f"session={place.address}", "--timeout", "60"]
    for words in (["fence", "dc2", "--reason", "burnt down"], ["unfence", "dc2"], ["fence", ""]):
        done = CliRunner().invoke(session_group, [*words, *where], standalone_mode=False)
        text = done.output + str(done.exception)
        assert done.exception is not None and "Traceback" not in text
        assert ("there is no data centre 'dc2'" if words[1] else "datacentre") in text


def test_a_realm_is_revoked_and_its_logins_come_back_one_after_the_other(place: Process) -> None:
    def session(*words: str) -> tuple[int, str]:
        where = ["--address", f"session={place.address}", "--timeout", "60"]
        done = CliRunner().invoke(session_group, [*words, *where], standalone_mode=False)
        return getattr(done.exception, "exit_code", done.exit_code), done.output + str(done.exception or "")

    assert session("create", "ann", "--show-token")[0] == 0
    status, text = session("revoke", "--whole-realm", "--readmit-over", "1d")
    assert status == 0 and "ended every session of the realm" in text
    refused = [session("create", f"u{number}", "--show-token") for number in range(5)]
    assert any(status != 0 and "logins are let in again" in text for status, text in refused)
    assert session("revoke", "--whole-realm", "--readmit-over", "0s")[0] == 0
    assert session("create", "ann", "--show-token")[0] == 0
    assert session("revoke", "--subject", "ann", "--readmit-over", "1m")[0] == 2


def test_what_is_refused_is_one_sentence(place: Process) -> None:
    file = str(place.path / "keyring.json")
    assert run(place, "add", "sign", "--keyring", file)[0] == 0
    for words, says in (
        (("add", "sign", "--keyring", file), "sign-2 is the next key already; promote it first"),
        (("add", "seal", "--keyring", file + ".none"), "there is no keyring at"),
        (("add", "pairwise", "--keyring", file), "is not one of"),
        (("promote", "seal-9"), "the keyring holds no key"),
        (("retire", "seal-1"), "is the active key; promote another one first"),
        (("retire", "pseudonym-1"), "is one for ever"),
    ):
        status, text = run(place, *words)
        assert status != 0 and says in text and "Traceback" not in text
    assert run(place, "promote", "sign-2")[0] == 0
    status, text = run(place, "retire", "sign-1")
    assert status != 0 and "may need it for" in text
