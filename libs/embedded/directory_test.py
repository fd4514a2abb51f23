"""A data directory that must not be opened is refused, says why, and is left as it was."""

import json
import os
import subprocess
import sys

import pytest

from libs.embedded.failures import DirectoryInUse, StoreUnavailable, WrongDirectory
from libs.embedded.settings import FamilySpec, Settings
from libs.embedded.store import EmbeddedStore

SMALL = Settings(cache_bytes=1 << 20, write_buffer_bytes=1 << 20, reserve_bytes=0)


def opened(path, schema="storage", version=1, families=("a",)):
    return EmbeddedStore.open(
        path,
        schema=schema,
        version=version,
        families=[FamilySpec(n) for n in families],
        settings=SMALL,
    )


def tree(path):
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in path.rglob("*")
        if file.is_file() and file.name != "LOCK.pid"
    }


def test_another_process_holds_it(tmp_path):
    program = (
        "import sys, time\n"
        "from libs.embedded.settings import FamilySpec\n"
        "from libs.embedded.store import EmbeddedStore\n"
        "store = EmbeddedStore.open(sys.argv[1], schema='storage', version=1, families=[FamilySpec('a')])\n"
        "print('open', flush=True)\n"
        "sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        assert holder.stdout.readline() == b"open\n"
        with pytest.raises(DirectoryInUse, match=f"in use by process {holder.pid};") as caught:
            opened(tmp_path)
        assert caught.value.metadata["pid"] == str(holder.pid)
    finally:
        holder.kill()
        holder.wait()
    opened(tmp_path).close()  # the lock died with its process


def test_held_by_this_process(tmp_path):
    with (
        opened(tmp_path),
        pytest.raises(DirectoryInUse, match=f"process {os.getpid()}"),
    ):
        opened(tmp_path)


def test_of_another_service(tmp_path):
    opened(tmp_path, schema="session").close()
    before = tree(tmp_path)
    with pytest.raises(WrongDirectory, match="of the service 'session'; this is the service 'storage'"):
        opened(tmp_path)
    assert tree(tmp_path) == before


def test_of_another_version(tmp_path):
    opened(tmp_path, version=2).close()
    before = tree(tmp_path)
    with pytest.raises(WrongDirectory, match=r"in version 2 .* reads version 1 ") as caught:
        opened(tmp_path)
    assert caught.value.metadata["found"] == "2" and caught.value.metadata["allowed"] == "1"
    assert tree(tmp_path) == before


def test_of_a_version_before_that_is_read_too(tmp_path):
    def taken_over(version, oldest):
        families = [FamilySpec("a")]
        return EmbeddedStore.open(
            tmp_path, schema="storage", version=version, oldest=oldest, families=families, settings=SMALL
        )

    with opened(tmp_path, version=2) as store:
        batch = store.batch()
        batch.put(store.family("a"), b"key", b"value")
        store.write_through(batch)
    before = tree(tmp_path)
    for version, oldest, allowed in ((4, 3, "3 to 4"), (1, 1, "1")):
        with pytest.raises(WrongDirectory, match=rf"in version 2 .* reads version {allowed} ") as caught:
            taken_over(version, oldest)
        assert caught.value.metadata["allowed"] == allowed
    assert tree(tmp_path) == before
    for _ in range(2):
        with taken_over(3, 2) as store:
            assert store.family("a").get(b"key") == b"value"
    with pytest.raises(WrongDirectory, match=r"in version 3 .* reads version 2 "):
        opened(tmp_path, version=2)  # what wrote it would not know what has been written since


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"magic": "other"}',
        b"\xff\xfe",
        json.dumps({"magic": "wellspring-data", "layout": 1, "schema": 5, "version": 1}),
    ],
)
def test_a_damaged_format_file(tmp_path, text):
    opened(tmp_path).close()
    (tmp_path / "FORMAT").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(WrongDirectory, match=r"FORMAT (is damaged|cannot be read)"):
        opened(tmp_path)


def test_a_directory_with_other_files_is_not_taken_over(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(WrongDirectory, match=r"not empty \(thesis\.txt\)"):
        opened(tmp_path)
    assert tree(tmp_path) == {"thesis.txt": b"years of work"}


def test_creation_that_was_cut_short_is_done_again(tmp_path):
    (tmp_path / "LOCK.pid").write_text("1\n")
    (tmp_path / "FORMAT.new").write_text("{")
    opened(tmp_path).close()
    opened(tmp_path).close()


def test_a_family_of_a_later_release(tmp_path):
    opened(tmp_path, families=("a", "later")).close()
    with pytest.raises(WrongDirectory, match="does not know: later"):
        opened(tmp_path)


def test_a_family_that_is_new_is_created(tmp_path):
    opened(tmp_path).close()
    with opened(tmp_path, families=("a", "b")) as store:
        assert store.family("b").get(b"k") is None


def test_a_file_in_the_place_of_the_directory(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StoreUnavailable, match="is a file"):
            opened(path)


def test_not_writable(tmp_path, monkeypatch):
    with pytest.raises(StoreUnavailable, match="creating the data directory .* failed: the operating system refuses"):
        opened("/sys/wellspring")  # where even root may not create a directory
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # for root every other directory is writable
    with pytest.raises(StoreUnavailable, match=r"is not readable and writable for the user of this process \(uid"):
        opened(tmp_path)
    assert not tree(tmp_path)
