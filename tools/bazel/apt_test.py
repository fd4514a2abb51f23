"""The fetcher and the signed index, against small signed archives (testdata/) by file:// URLs."""

import hashlib
import shutil
import tempfile
from pathlib import Path

import pytest

from tools.bazel import apt, debian_bazel
from tools.bazel.apt import AptError, GoneError, Pin, SignedIndex, TamperedError

DATA = Path(__file__).resolve().parent / "testdata"
KEY = DATA / "key.gpg"
NAMES = ["bazel-bootstrap", "libtext-java"]


@pytest.fixture
def archive():
    """Makes a writable copy of one of the archives; returns its folder and its URL.

    Below /tmp, as apt names its files after the whole URL, and a file's name ends at 255 bytes.
    """
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="apt-") as tmp:

        def copy(name="current"):
            folder = Path(tmp) / name
            shutil.copytree(DATA / name, folder)
            return folder, f"file://{folder}"

        yield copy


def pin(folder, path):
    return Pin(path=path, sha256=hashlib.sha256((folder / path).read_bytes()).hexdigest())


def old_pins(folder):
    """A lock from before: one file that is still there, one that has gone, one library under its old name."""
    gone = Pin("pool/main/b/bazel-bootstrap/bazel-bootstrap_7.7.1-1_amd64.deb", "0" * 64)
    renamed = Pin("pool/main/libg/libgrpc29/libgrpc29_1.51-1_amd64.deb", "1" * 64)
    return [pin(folder, "pool/main/l/libc6/libc6_2.43-8_amd64.deb"), gone, renamed]


def resolve(archive_url, tmp_path, name="unstable", **kwargs):
    return SignedIndex(archive_url, name, tmp_path / "root", KEY, **kwargs)


def test_a_file_comes_by_its_hash(archive, tmp_path):
    folder, url = archive()
    want = pin(folder, "pool/main/l/libc6/libc6_2.43-8_amd64.deb")
    assert apt.fetch(want, tmp_path / "a.deb", [url]).read_text() == "libc6 2.43-8\n"


def test_the_next_mirror_is_asked_when_a_file_is_missing(archive, tmp_path):
    folder, url = archive()
    want = pin(folder, "pool/main/l/libc6/libc6_2.43-8_amd64.deb")
    assert apt.fetch(want, tmp_path / "a.deb", [f"file://{tmp_path}/nowhere", url]).exists()


def test_a_tampered_file_is_refused_and_not_left_behind(archive, tmp_path):
    folder, url = archive()
    want = pin(folder, "pool/main/l/libc6/libc6_2.43-8_amd64.deb")
    (folder / want.path).write_text("libc6 2.43-9\n")
    with pytest.raises(TamperedError, match="refused"):
        apt.fetch(want, tmp_path / "a.deb", [url])
    assert not (tmp_path / "a.deb").exists()


def test_a_download_of_before_is_checked_again(archive, tmp_path):
    folder, url = archive()
    want = pin(folder, "pool/main/l/libc6/libc6_2.43-8_amd64.deb")
    (tmp_path / "a.deb").write_text("cut sho")
    assert apt.fetch(want, tmp_path / "a.deb", [url]).read_text() == "libc6 2.43-8\n"


def test_a_missing_file_says_where_it_was_looked_for(archive, tmp_path):
    _, url = archive()
    with pytest.raises(GoneError, match="pool/main/x/x_1_amd64.deb"):
        apt.fetch(Pin("pool/main/x/x_1_amd64.deb", "0" * 64), tmp_path / "a.deb", [url])


def test_no_mirror_at_all_is_said(tmp_path):
    with pytest.raises(GoneError, match="names no Debian mirror"):
        apt.fetch(Pin("pool/main/x/x_1_amd64.deb", "0" * 64), tmp_path / "a.deb", [])


def test_the_index_follows_libraries_and_not_other_dependencies(archive, tmp_path):
    _, url = archive()
    pins = resolve(url, tmp_path).pins(NAMES, "bazel-bootstrap")
    assert [p.package for p in pins] == ["bazel-bootstrap", "libc6", "libgrpc30", "libre2-11", "libtext-java"]


def test_an_index_with_another_signature_is_refused(archive, tmp_path):
    folder, url = archive()
    release = folder / "dists/unstable/InRelease"
    release.write_text(release.read_text().replace("Origin: Test", "Origin: Evil"))
    with pytest.raises(AptError, match="cannot be used"):
        resolve(url, tmp_path)


def test_an_unsigned_index_is_refused(archive, tmp_path):
    folder, url = archive()
    signed = (folder / "dists/unstable/InRelease").read_text()
    (folder / "dists/unstable/InRelease").unlink()
    body = signed.partition("\n\n")[2].partition("-----BEGIN PGP SIGNATURE")[0]
    (folder / "dists/unstable/Release").write_text(body)
    with pytest.raises(AptError, match="cannot be used"):
        resolve(url, tmp_path)


def test_a_package_list_that_is_not_the_signed_one_is_refused(archive, tmp_path):
    folder, url = archive()
    listing = folder / "dists/unstable/main/binary-amd64/Packages"
    listing.write_text(listing.read_text().replace("7.7.2", "7.7.3"))
    with pytest.raises(AptError, match="cannot be used"):
        resolve(url, tmp_path)


def test_an_expired_index_is_used_only_when_asked_to(archive, tmp_path):
    _, url = archive("expired")
    with pytest.raises(AptError, match="expired"):
        resolve(url, tmp_path)
    assert resolve(url, tmp_path, stale=True).record("libc6")["Version"] == "2.43-8"


def test_a_missing_keyring_is_named(archive, tmp_path):
    _, url = archive()
    with pytest.raises(AptError, match="debian-archive-keyring"):
        SignedIndex(url, "unstable", tmp_path, tmp_path / "none.gpg")


def test_vanished_pins_are_replaced_from_the_signed_index_and_it_is_said(archive, tmp_path, capsys):
    folder, url = archive()
    debs = debian_bazel.fetch_debs(old_pins(folder), NAMES, "7.7.1", tmp_path, [url], keyring=KEY)
    assert sorted(d.name for d in debs) == [
        "bazel-bootstrap_7.7.2-1_amd64.deb",
        "libc6_2.43-8_amd64.deb",
        "libgrpc30_1.60-1_amd64.deb",
        "libre2-11_2026-1_amd64.deb",
        "libtext-java_1.0-2_amd64.deb",
    ]
    said = capsys.readouterr().err
    assert "has gone from the archive" in said
    assert "taking bazel-bootstrap_7.7.2-1_amd64.deb from the signed index instead of bazel-bootstrap_7.7.1-1" in said
    assert "libc6" not in said.replace("libc6 (", "")


def test_a_tampered_pin_is_never_replaced(archive, tmp_path):
    folder, url = archive()
    lock = [pin(folder, "pool/main/l/libc6/libc6_2.43-8_amd64.deb")]
    (folder / lock[0].path).write_text("something else\n")
    with pytest.raises(TamperedError):
        debian_bazel.fetch_debs(lock, NAMES, "7.7.1", tmp_path, [url], keyring=KEY)


def test_a_tampered_successor_is_refused(archive, tmp_path):
    folder, url = archive()
    (folder / "pool/main/b/bazel-bootstrap/bazel-bootstrap_7.7.2-1_amd64.deb").write_text("something else\n")
    with pytest.raises(TamperedError):
        debian_bazel.fetch_debs(old_pins(folder), NAMES, "7.7.1", tmp_path, [url], keyring=KEY)


def test_an_archive_that_moved_to_another_major_version_is_said(archive, tmp_path):
    folder, url = archive("moved")
    with pytest.raises(AptError, match=r"moved on to bazel-bootstrap 8\.1\.0-1, which is not Bazel 7"):
        debian_bazel.fetch_debs(old_pins(folder), NAMES, "7.7.1", tmp_path, [url], keyring=KEY)


def test_when_nothing_helps_the_message_names_commands(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("BAZELW_DEBIAN_MIRROR", f"file://{tmp_path}/nowhere")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert debian_bazel.main() == 1
    said = capsys.readouterr().err
    assert (
        "BAZELW_DEBIAN_MIRROR=" in said
        and "BAZELW_STALE_INDEX=1 ./bazelw version" in said
        and "apt-get install" in said
    )
    assert "Traceback" not in said


@pytest.mark.parametrize(
    "line", ["abc", "0" * 64 + "  /etc/passwd", "0" * 63 + "  pool/a/b_1_amd64.deb", "0" * 64 + "  pool/x"]
)
def test_a_broken_lock_names_its_line(line):
    with pytest.raises(ValueError, match=r"debian\.lock:2"):
        apt.read_lock(f"# comment\n{line}\n")


def test_the_lock_in_the_tree_is_read_back_as_written():
    text = (Path(apt.__file__).parent / "debian.lock").read_text()
    pins = apt.read_lock(text)
    assert apt.write_lock(pins) == text
    named = {p.package for p in pins}
    wanted = debian_bazel.package_names((Path(apt.__file__).parent / "packages.txt").read_text())
    assert set(wanted) <= named
