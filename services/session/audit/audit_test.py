"""The chain tells every change of the file, goes on over kills, torn lines and full disks, and says what it lacks."""

import asyncio
import errno
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from services.session.audit.file import AuditFile, AuditUnusable
from services.session.audit.verify import Report, keys_of, verify
from services.session.crypto import assertions, keyring

RING = keyring.generate(0)
KEYS = keys_of(assertions.key_set(RING))


def opened(path: Path, **options: Any) -> AuditFile:
    return AuditFile(
        path / "audit", "dc1", lambda text: assertions.sign_bytes(RING, text), kept_for_s=86_400, **options
    )


def filled(path: Path, count: int = 30, **options: Any) -> AuditFile:
    audit = opened(path, **options)
    for number in range(count):
        audit.record("session_created", "web", f"h{number}", "cn:app", {"level": 1} if number % 2 else {})
        if number % 10 == 9:
            audit.vouch()
    return audit


def checked(path: Path, **options: Any) -> Report:
    files = sorted(path.glob("audit.*")) + [path / "audit"]
    return verify(files, KEYS, **options)


def test_ses_22_what_was_recorded_is_there_and_vouched_for(tmp_path: Path) -> None:
    asyncio.run(filled(tmp_path).close())
    report = checked(tmp_path)
    assert (report.problems, report.first, report.heads) == ([], 1, 3)
    entries = [json.loads(line) for line in (tmp_path / "audit").read_bytes().splitlines()]
    assert [entry["handle"] for entry in entries if entry["event"] == "session_created"] == [
        f"h{number}" for number in range(30)
    ]
    assert report.last == len(entries) and report.vouched == report.last - 1
    assert (tmp_path / "audit").stat().st_mode & 0o077 == 0


def test_ses_22_every_change_of_the_file_is_found(tmp_path: Path) -> None:
    asyncio.run(filled(tmp_path).close())
    path = tmp_path / "audit"
    good = path.read_bytes()
    lines = good.splitlines(keepends=True)
    chance = random.Random(7)
    changed = [
        b"".join(lines[:9] + lines[10:]),  # one taken out
        b"".join(lines[:9] + [lines[10], lines[9]] + lines[11:]),  # two swapped
        b"".join(lines[:9] + [lines[9]] + lines[9:]),  # one doubled
        b"".join(lines[1:5]) + b"nonsense\n" + b"".join(lines[6:]),
        good.replace(b'"h7"', b'"h8"', 1),
    ]
    for _ in range(200):  # any byte but of the last line, whose successor is not there to tell
        at = chance.randrange(len(good) - len(lines[-1]))
        changed.append(good[:at] + bytes([good[at] ^ (1 << chance.randrange(8))]) + good[at + 1 :])
    for bad in changed:
        path.write_bytes(bad)
        assert not checked(tmp_path).whole, bad


def test_a_chain_written_anew_cannot_sign_its_heads_and_a_cut_one_lacks_its_anchor(tmp_path: Path) -> None:
    audit = filled(tmp_path)
    place = audit._place
    asyncio.run(audit.close())
    assert checked(tmp_path, anchors=[(place.number, place.hash)]).whole
    other = keyring.generate(0)
    (tmp_path / "forged").mkdir()
    forged = AuditFile(
        tmp_path / "forged" / "audit", "dc1", lambda text: assertions.sign_bytes(other, text), kept_for_s=86_400
    )
    forged.record("session_created", "web", "h", "c", {})
    asyncio.run(forged.close())
    assert any("signature does not hold" in one for one in checked(tmp_path / "forged").problems)
    lines = (tmp_path / "audit").read_bytes().splitlines(keepends=True)
    (tmp_path / "audit").write_bytes(b"".join(lines[:20]))
    assert checked(tmp_path).whole  # nothing inside of the file can tell
    (problem,) = checked(tmp_path, anchors=[(place.number, place.hash)]).problems
    assert "is missing" in problem


def test_it_goes_on_where_it_was_and_a_torn_line_is_told(tmp_path: Path) -> None:
    audit = filled(tmp_path)
    os.close(audit._file)  # as a kill does
    path = tmp_path / "audit"
    path.write_bytes(path.read_bytes()[:-10])
    audit = filled(tmp_path, 3)
    asyncio.run(audit.close())
    report = checked(tmp_path)
    assert report.problems == []
    opened_again = [json.loads(line) for line in path.read_bytes().splitlines() if b"audit_opened" in line]
    assert len(opened_again) == 2 and opened_again[1]["facts"]["torn_bytes"] > 0


def test_a_large_file_is_moved_aside_and_the_chain_goes_on(tmp_path: Path) -> None:
    audit = filled(tmp_path, 100, largest=4000)
    os.close(audit._file)
    asyncio.run(filled(tmp_path, 100, largest=4000).close())
    assert len(list(tmp_path.glob("audit.*"))) > 5
    report = checked(tmp_path)
    assert report.problems == [] and report.last > 200
    for old in sorted(tmp_path.glob("audit.*"))[:3]:
        old.unlink()
    report = checked(tmp_path)  # the oldest may go when their time is over
    assert report.problems == [] and report.first > 1


def test_old_files_go_and_the_present_one_stays(tmp_path: Path) -> None:
    audit = filled(tmp_path, 100, largest=4000)
    old = sorted(tmp_path.glob("audit.*"))
    for path in old[:4]:
        os.utime(path, (0, 0))
    audit._remove_old()
    assert sorted(tmp_path.glob("audit.*")) == old[4:] and (tmp_path / "audit").exists()


def test_a_full_disk_is_told_and_leaves_a_counted_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audit = filled(tmp_path, 5)
    write = os.write

    def refuse(file: int, data: bytes) -> int:
        if len(data) > 20:
            return write(file, data[:20])  # a part still fits
        raise OSError(errno.ENOSPC, "No space left on device")

    size = (tmp_path / "audit").stat().st_size
    monkeypatch.setattr("services.session.audit.file.os.write", lambda file, data: refuse(file, data[:21]))
    for _ in range(3):
        audit.record("session_revoked", "web", "h", "c", {})
    assert (tmp_path / "audit").stat().st_size == size
    with pytest.raises(Exception, match="cannot be written"):
        asyncio.run(audit.check())
    monkeypatch.undo()
    audit.record("session_revoked", "web", "h", "c", {})
    asyncio.run(audit.check())
    asyncio.run(audit.close())
    report = checked(tmp_path)
    assert (report.problems, report.gaps) == ([], 3)


def test_another_servers_file_and_what_is_no_audit_are_refused(tmp_path: Path) -> None:
    audit = filled(tmp_path)
    with pytest.raises(AuditUnusable, match="another server's"):
        opened(tmp_path)
    asyncio.run(audit.close())
    (tmp_path / "audit").write_text("my notes\n")
    with pytest.raises(AuditUnusable, match="does not end with an entry"):
        opened(tmp_path)
    assert (tmp_path / "audit").read_text() == "my notes\n"
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "audit").mkdir()
    with pytest.raises(AuditUnusable, match="cannot be written"):
        opened(tmp_path / "dir")
