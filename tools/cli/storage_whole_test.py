"""The commands over whole namespaces, against a real platform: snapshots, operations, exports, imports, care."""

import hashlib
import json

import pytest

from tools.cli import failures
from tools.cli.fixture import Shell, platform_shell
from tools.cli.target import find
from wellspring_client import connect


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    with platform_shell(tmp_path_factory.mktemp("platform")) as started:
        started.ok("storage", "namespaces", "create", "notes", "--mode", "CAS", "--bind", "notes/")
        for number in range(20):
            started.ok("storage", "put", "notes", f"r{number:02}", "x" * 100_000)
        yield started


def values(shell: Shell, namespace: str) -> list[str]:
    return [one["record"] for one in shell.lines("storage", "scan", namespace, "--all", "--keys-only")]


def test_a_snapshot_is_taken_listed_restored_and_deleted(shell: Shell):
    made = shell.json("storage", "snapshots", "take", "notes", "nightly")
    assert (made["records"], made["namespace"], made["damaged"]) == (20, "notes", False)
    taken = shell.fails(failures.CONFLICT, "storage", "snapshots", "take", "notes", "nightly", "--json")
    assert json.loads(taken.stderr)["reason"] == "SNAPSHOT_EXISTS"
    assert [one["name"] for one in shell.lines("storage", "snapshots", "list", "--namespace", "notes")] == ["nightly"]
    assert "nightly" in shell.ok("storage", "snapshots", "list").stdout
    restored = shell.json("storage", "snapshots", "restore", "nightly", "again")
    assert restored["name"] == "again" and "binding" not in restored
    assert values(shell, "again") == values(shell, "notes")
    shell.fails(failures.CONFLICT, "storage", "snapshots", "restore", "nightly", "again")
    shell.ok("storage", "snapshots", "delete", "nightly")
    shell.fails(failures.NOT_FOUND, "storage", "snapshots", "delete", "nightly")
    shell.fails(failures.NOT_FOUND, "storage", "snapshots", "restore", "nightly", "more")
    shell.fails(failures.USAGE, "storage", "snapshots", "take", "notes", "../x")


def test_operations_are_followed_by_name(shell: Shell):
    begun = shell.json("storage", "snapshots", "take", "notes", "later", "--no-wait")
    ended = shell.json("storage", "operations", "wait", begun["name"])
    assert (ended["state"], ended["kind"], ended["target"]) == ("succeeded", "snapshot", "notes")
    assert shell.json("storage", "operations", "get", begun["name"])["done"] == 20
    listed = shell.lines("storage", "operations", "list", "--target", "notes", "--limit", "1")
    assert [one["name"] for one in listed] == [begun["name"]]
    assert begun["name"] in shell.ok("storage", "operations", "list").stdout
    assert "had ended before" in shell.ok("storage", "operations", "cancel", begun["name"]).stdout
    shell.fails(failures.NOT_FOUND, "storage", "operations", "get", "nothing")


def test_a_namespace_goes_to_a_file_and_comes_back(shell: Shell, tmp_path):
    file = tmp_path / "notes.export"
    told = shell.json("storage", "export", "notes", str(file))
    data = file.read_bytes()
    assert told["sha256"] == hashlib.sha256(data[:-65]).hexdigest() == data[-32:].hex()
    assert told["bytes"] == len(data) > 2_000_000 and list(tmp_path.iterdir()) == [file]
    shell.fails(failures.CONFLICT, "storage", "export", "notes", str(file))
    shell.ok("storage", "export", "notes", str(file), "--force")
    shell.ok("storage", "namespaces", "create", "copy", "--mode", "CAS")
    for _ in range(2):
        assert shell.json("storage", "import", "copy", str(file)) == {"namespace": "copy", "records": 20, "items": 20}
        assert values(shell, "copy") == values(shell, "notes")
    shell.ok("storage", "namespaces", "create", "other", "--mode", "LWW")
    assert "mode" in shell.fails(failures.CONFLICT, "storage", "import", "other", str(file)).stderr
    shell.fails(failures.NOT_FOUND, "storage", "import", "nothing", str(file))
    shell.fails(failures.NOT_FOUND, "storage", "export", "nothing", str(tmp_path / "x"))


def test_a_damaged_or_foreign_file_is_bad_data(shell: Shell, tmp_path):
    file = tmp_path / "notes.export"
    shell.ok("storage", "export", "notes", str(file))
    shell.ok("storage", "namespaces", "create", "empty", "--mode", "CAS")
    data = bytearray(file.read_bytes())
    data[1_000_000] ^= 1
    (tmp_path / "flipped").write_bytes(data)
    (tmp_path / "cut").write_bytes(data[:100_000])
    (tmp_path / "short").write_bytes(b"x")
    (tmp_path / "foreign").write_bytes(b"PK\x03\x04" * 1000)
    for name in ("flipped", "cut", "short", "foreign"):
        shell.fails(failures.BAD_DATA, "storage", "import", "empty", str(tmp_path / name))
    assert values(shell, "empty") == []
    shell.fails(failures.FAILED, "storage", "import", "empty", str(tmp_path / "absent"))


def test_an_export_goes_on_where_it_was(shell: Shell, tmp_path):
    whole, file = tmp_path / "whole", tmp_path / "notes.export"
    with connect(storage=find(shell.data)["storage"]) as client:
        answers = list(client.storage.export_namespace("notes"))
    whole.write_bytes(b"".join(one.data for one in answers))
    (tmp_path / "notes.export.partial").write_bytes(answers[0].data + b"torn")
    state = {"namespace": "notes", "bytes": len(answers[0].data), "token": answers[0].resume_token}
    (tmp_path / "notes.export.resume").write_text(json.dumps(state))
    assert "going on" in shell.ok("storage", "export", "notes", str(file)).stderr
    assert file.read_bytes() == whole.read_bytes()
    (tmp_path / "notes.export.partial").write_bytes(b"x" * len(answers[0].data))
    (tmp_path / "notes.export.resume").write_text(json.dumps(state))
    shell.fails(failures.BAD_DATA, "storage", "export", "notes", str(file), "--force")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.export", "whole"]


def test_care(shell: Shell):
    usage = shell.json("storage", "usage", "notes")
    assert (usage["records"], usage["items"], usage["exact"]) == (20, 20, True)
    assert "20 records" in shell.ok("storage", "usage", "notes").stdout
    shell.ok("storage", "put", "notes", "big", "x" * 120_000, "--key", "a")
    shell.ok("storage", "put", "notes", "huge", input=b"x" * 600_000)
    found = {one["kind"]: one for one in shell.lines("storage", "inspect", "notes")}
    assert found["big value"]["record"] == "huge" and "Upload" in found["big value"]["advice"]
    assert "huge" in shell.ok("storage", "inspect", "notes").stdout
    report = shell.json("storage", "rebucket", "notes", "huge")
    assert report == {"records": 1, "buckets_before": 1, "buckets_after": 1}
    shell.fails(failures.NOT_FOUND, "storage", "inspect", "nothing")
    refused = shell.fails(failures.USAGE, "storage", "mirror", "notes", "elsewhere")
    assert "target_backend" in refused.stderr and "none" in refused.stderr
