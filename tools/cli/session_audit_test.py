"""`wellspring session audit verify` as it is typed: whole, changed, cut off, and files that are none."""

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from services.session.audit.file import AuditFile
from services.session.crypto import assertions, keyring
from tools.cli.session_audit import audit


@pytest.fixture
def place(tmp_path: Path) -> Path:
    ring = keyring.generate(0)
    written = AuditFile(tmp_path / "audit", "dc1", lambda text: assertions.sign_bytes(ring, text), kept_for_s=86_400)
    for number in range(20):
        written.record("session_created", "web", f"h{number}", "c", {})
    asyncio.run(written.close())
    (tmp_path / "keys.json").write_text(assertions.key_set(ring))
    return tmp_path


def run(place: Path, *more: str) -> tuple[int, str]:
    done = CliRunner().invoke(
        audit, ["verify", str(place / "audit"), "--keys", str(place / "keys.json"), *more], standalone_mode=False
    )
    return getattr(done.exception, "exit_code", done.exit_code), done.output + str(done.exception or "")


def test_a_whole_audit(place: Path) -> None:
    status, text = run(place)
    assert status == 0 and "entries 1 to 22: whole, 1 head, signed up to 21" in text
    status, text = run(place, "--json")
    assert json.loads(text)["whole"] is True


def test_a_changed_and_a_cut_one(place: Path) -> None:
    file = place / "audit"
    good = file.read_bytes()
    file.write_bytes(good.replace(b'"h7"', b'"h8"'))
    status, text = run(place)
    assert status == 65 and "NOT whole" in text and "audit:10: does not follow from the line before" in text
    file.write_bytes(b"".join(good.splitlines(keepends=True)[:9]))
    status, text = run(place, "--anchor", "21:" + "0" * 64)
    assert status == 65 and "entry 21, which was anchored elsewhere, is missing" in text


def test_files_that_are_none(place: Path) -> None:
    status, text = run(place, "--anchor", "nonsense")
    assert status == 2 and "NUMBER:HASH" in text
    status, text = run(place, "--kafka", "127.0.0.1:1")
    assert status == 2 and "and not both" in text
    (place / "keys.json").write_text("[]")
    status, text = run(place)
    assert status == 65 and "is no key set" in text
    (place / "keys.json").unlink()
    status, text = run(place)
    assert status == 65 and "No such file" in text
