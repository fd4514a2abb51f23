"""Locks are read strictly, closures whole; a vanished file has a successor, a tampered one none; links stay inside."""

import hashlib
import os
import subprocess

import pytest

from tools.debian import archive, fetch, lock, unpack
from tools.debian.lock import LockError, Package

HEAD = "suite bookworm\narchitecture amd64\nroot redis  # asked for\n"
DIGEST = "a" * 64

INDEX = {
    p["Package"]: p
    for p in archive.stanzas(
        """\
Package: redis
Version: 7.1
Depends: libc6 (>= 2.34), libssl3 | libssl2, mail-agent
Pre-Depends: init-system-helpers
Description: a store
 with a continuation: line
Filename: pool/redis_7.1.deb
SHA256: 11

Package: libssl3
Version: 3
Depends: redis
Filename: pool/libssl3.deb
SHA256: 22

Package: postman
Version: 1
Provides: mail-agent (= 2), other
Filename: pool/postman.deb
SHA256: 33
"""
    )
}


def package(name="redis", version="7.0", path="pool/redis_7.0.deb", sha256=DIGEST):
    return Package(name, version, sha256, path)


def test_a_lock_is_read_and_written_back():
    text = HEAD + f"without gcc\npackage redis 7.0 {DIGEST} pool/redis_7.0.deb\n"
    read = lock.parse(text)
    assert (read.suite, read.architecture, read.roots, read.without) == ("bookworm", "amd64", ["redis"], ["gcc"])
    assert read.packages == [package()]
    newer = lock.replace_packages(text, [package(version="7.1")])
    assert newer == HEAD + f"without gcc\npackage redis 7.1 {DIGEST} pool/redis_7.0.deb\n"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("suite bookworm\nroot x\n", "no 'architecture' line"),
        (HEAD + "pakage x\n", "f:4: unknown 'pakage'; allowed: suite"),
        (HEAD + "root a b\n", "f:4: 'root' takes one word, found 2"),
        (HEAD + "package a 1\n", "f:4: a package line is"),
        (HEAD + "package a 1 abc pool/a.deb\n", "'abc' is not a SHA-256"),
        (HEAD + f"package a 1 {DIGEST} ../../etc/passwd\n", "leaves the archive"),
        (HEAD + f"package a 1 {DIGEST} /etc/passwd\n", "leaves the archive"),
    ],
)
def test_a_bad_lock_is_refused_with_its_line(text, complaint):
    with pytest.raises(LockError) as error:
        lock.parse(text, "f")
    assert complaint in str(error.value)


def test_the_closure_follows_alternatives_providers_and_cycles():
    names = [p.name for p in archive.closure(INDEX, ["redis"], {"libc6", "init-system-helpers"})]
    assert names == ["libssl3", "postman", "redis"]
    without = {"libc6", "init-system-helpers", "postman", "libssl2"}
    assert [p.name for p in archive.closure(INDEX, ["redis"], without)] == ["libssl3", "redis"]


def test_a_dependency_that_the_index_lacks_is_named():
    with pytest.raises(archive.ArchiveError, match="redis needs libc6, which the index lacks"):
        archive.closure(INDEX, ["redis"], {"init-system-helpers"})


@pytest.fixture
def wanted():
    return lock.parse(
        HEAD + f"package redis 7.0 {DIGEST} pool/redis_7.0.deb\npackage postman 1 {'3' * 64} pool/p.deb\n"
    )


@pytest.fixture
def served(monkeypatch, tmp_path):
    """An archive in which only the paths in the returned set exist."""
    paths = set()

    def download(bases, wanted, folder):
        if wanted.path not in paths:
            raise archive.Gone(f"{wanted.path}: no longer on any mirror")
        return folder / wanted.path.rsplit("/", 1)[1]

    monkeypatch.setattr(archive, "download", download)
    monkeypatch.setattr(
        fetch, "resolve", lambda *_: [package(version="7.1", path="pool/redis_7.1.deb"), wanted_postman()]
    )
    return paths


def wanted_postman():
    return package("postman", "1", "pool/p.deb", "3" * 64)


def test_pinned_files_are_taken_while_they_are_there(wanted, served, tmp_path):
    served |= {"pool/redis_7.0.deb", "pool/p.deb"}
    files, kinds = fetch.fetch(wanted, ["x/"], tmp_path)
    assert [f.name for f in files] == ["redis_7.0.deb", "p.deb"]
    assert {kind for _, kind in kinds} == {"pinned"}


def test_a_vanished_file_has_its_successor_and_that_is_said(wanted, served, tmp_path, capsys):
    served |= {"pool/redis_7.1.deb", "pool/p.deb"}
    files, kinds = fetch.fetch(wanted, ["x/"], tmp_path)
    assert [f.name for f in files] == ["redis_7.1.deb", "p.deb"]
    assert [(p.name, kind) for p, kind in kinds] == [("redis", "successor"), ("postman", "pinned")]
    said = capsys.readouterr().err
    assert "no longer on any mirror" in said
    assert "redis 7.1 in place of the locked version" in said


def test_where_neither_is_to_be_had_both_reasons_are_given(wanted, served, monkeypatch, tmp_path):
    def unreadable(*_):
        raise archive.ArchiveError("the index has expired")

    monkeypatch.setattr(fetch, "resolve", unreadable)
    with pytest.raises(
        archive.ArchiveError, match=r"redis_7\.0\.deb: no longer.*bookworm names another: the index has exp"
    ):
        fetch.fetch(wanted, ["x/"], tmp_path)


def test_tampering_is_refused_and_never_replaced(wanted, monkeypatch, tmp_path):
    def tampered(*_):
        raise archive.Tampered("other bytes")

    monkeypatch.setattr(archive, "download", tampered)
    monkeypatch.setattr(fetch, "resolve", lambda *_: pytest.fail("a successor was looked for"))
    with pytest.raises(archive.Tampered):
        fetch.fetch(wanted, ["x/"], tmp_path)


needs_apt = pytest.mark.skipif(not os.path.exists(archive.APT_HELPER), reason="this machine has no apt")


@needs_apt
def test_the_real_downloader_checks_the_hash_and_tries_every_mirror(tmp_path):
    mirror, empty, out = (tmp_path / n for n in ("mirror", "empty", "out"))
    for folder in (mirror / "pool", empty, out):
        folder.mkdir(parents=True)
    (mirror / "pool/a.deb").write_bytes(b"the package")
    bases = [f"file://{empty}/", f"file://{mirror}/"]
    good = package(path="pool/a.deb", sha256=hashlib.sha256(b"the package").hexdigest())
    assert archive.download(bases, good, out).read_bytes() == b"the package"
    (out / "a.deb").unlink()
    with pytest.raises(archive.Tampered, match="refused"):
        archive.download(bases, package(path="pool/a.deb", sha256=hashlib.sha256(b"another").hexdigest()), out)
    with pytest.raises(archive.Gone):
        archive.download(bases, package(path="pool/b.deb", sha256=good.sha256), out)


def test_mirrors_can_be_named(monkeypatch):
    monkeypatch.setenv("WELLSPRING_DEBIAN_MIRRORS", "file:///a file:///b/")
    assert archive.mirrors() == ["file:///a/", "file:///b/"]


@needs_apt
def test_an_unpacked_package_keeps_its_links_inside(tmp_path):
    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(
        "Package: a\nVersion: 1\nArchitecture: all\nMaintainer: nobody <n@x>\nDescription: a\n"
    )
    for name in ("usr/bin/real", "usr/share/doc/a/copyright", "usr/lib/odd:name"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(name)
    links = {"usr/bin/alias": "/usr/bin/real", "usr/bin/twice": "alias", "usr/bin/out": "../../../../etc/passwd"}
    links |= {"usr/bin/dead": "/nowhere", "usr/bin/deader": "dead"}
    for name, target in links.items():
        (tree / name).symlink_to(target)
    subprocess.run(["dpkg-deb", "-b", str(tree), str(tmp_path / "a.deb")], check=True, capture_output=True)
    root = tmp_path / "root"
    unpack.unpack([tmp_path / "a.deb"], root)
    assert sorted(p.name for p in (root / "usr/bin").iterdir()) == ["alias", "real", "twice"]
    assert os.readlink(root / "usr/bin/alias") == "real"
    assert (root / "usr/bin/twice").read_text() == "usr/bin/real"
    assert not (root / "usr/share/doc").exists()
    assert not (root / "usr/lib/odd:name").exists()


def test_a_broken_package_is_named(tmp_path):
    (tmp_path / "b.deb").write_bytes(b"no archive")
    with pytest.raises(OSError, match=r"could not unpack b\.deb"):
        unpack.unpack([tmp_path / "b.deb"], tmp_path / "root")
