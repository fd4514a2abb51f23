"""Locks are read strictly; a jar that is not the locked one is refused; the trust store is what Java reads."""

import hashlib
import ssl
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tools.maven import fetch, lock, truststore

DIGEST = "b" * 64


def test_a_lock_is_read_and_written_back():
    text = f"# why\nartifact g:a:1\njar {DIGEST} old.jar\n"
    read = lock.parse(text)
    assert (read.artifacts, read.jars) == (["g:a:1"], {"old.jar": DIGEST})
    assert lock.replace_jars(text, {"b.jar": DIGEST, "a.jar": DIGEST}) == (
        f"# why\nartifact g:a:1\njar {DIGEST} a.jar\njar {DIGEST} b.jar\n"
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("jar abc a.jar\n", "f:1:"),
        (f"artifact g:a:1\njar {DIGEST} ../a.jar\n", "f:2:"),
        ("artifact g:a\n", "f:1:"),
        ("artifact g:a:<x>\n", "f:1:"),
        ("# nothing\n", "no 'artifact' line"),
    ],
)
def test_a_bad_lock_is_refused_with_its_line(text, complaint):
    with pytest.raises(lock.LockError) as error:
        lock.parse(text, "f")
    assert complaint in str(error.value)


def test_differences_name_each_jar():
    said = lock.differences(
        {"gone.jar": "1", "same.jar": "2", "other.jar": "3"}, {"same.jar": "2", "other.jar": "4", "new.jar": "5"}
    )
    assert said == [
        "gone.jar: locked, but Maven did not bring it",
        "new.jar: brought by Maven, but not locked",
        "other.jar: SHA-256 is 4, the lock says 3",
    ]


@pytest.fixture
def run(tmp_path):
    """Runs tools.maven.fetch with a stand-in for Maven that copies `jars`; returns exit code, stderr, output folder."""

    def run(jars: dict[str, bytes], locked: dict[str, str], code: int = 0):
        out = tmp_path / "out"
        out.mkdir()
        (tmp_path / "l.lock").write_text(lock.replace_jars("artifact g:a:1\n", locked))
        mvn = tmp_path / "mvn"
        mvn.write_text(
            f"#!{sys.executable}\nimport pathlib, sys\n"
            f"target = pathlib.Path(next(a.split('=')[1] for a in sys.argv if a.startswith('-DoutputDirectory')))\n"
            f"assert '<artifactId>a</artifactId>' in pathlib.Path(sys.argv[sys.argv.index('-f') + 1]).read_text()\n"
            f"target.mkdir(exist_ok=True)\n"
            f"[(target / n).write_bytes(b) for n, b in {jars!r}.items()]\n"
            f"print('registry fell over')\nsys.exit({code})\n"
        )
        mvn.chmod(0o755)
        arguments = ["--lock", tmp_path / "l.lock", "--out", out, "--java", "/usr/bin/java", "--mvn", mvn]
        done = subprocess.run(
            [sys.executable, "-m", "tools.maven.fetch", *map(str, arguments)],
            capture_output=True,
            text=True,
            env={"PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin"},
            check=False,
        )
        return done.returncode, done.stderr, out

    return run


def test_locked_jars_are_taken(run):
    code, said, out = run({"a.jar": b"jar"}, {"a.jar": hashlib.sha256(b"jar").hexdigest()})
    assert (code, said) == (0, "")
    assert [str(p.relative_to(out)) for p in out.rglob("*")] == ["jars", "jars/a.jar"]


def test_a_tampered_jar_is_refused_and_nothing_is_used(run):
    code, said, out = run({"a.jar": b"evil"}, {"a.jar": hashlib.sha256(b"jar").hexdigest()})
    assert code == 1
    assert "not what l.lock says" in said and "a.jar: SHA-256 is" in said
    assert list(out.iterdir()) == []


def test_a_failing_maven_is_quoted(run):
    code, said, out = run({}, {}, code=7)
    assert code == 1
    assert "Maven failed (7), 3 times" in said and "registry fell over" in said
    assert list(out.iterdir()) == []


def test_debians_maven_gets_a_trust_store_where_java_has_none(tmp_path, monkeypatch):
    monkeypatch.setattr(truststore, "BUNDLES", (str(tmp_path / "none.crt"),))
    with pytest.raises(fetch.MavenError, match="ca-certificates"):
        fetch.maven_command(None, tmp_path, tmp_path / "jvm/bin/java", tmp_path)
    (tmp_path / "jvm/lib/security").mkdir(parents=True)
    (tmp_path / "jvm/lib/security/cacerts").write_bytes(b"")
    command, _ = fetch.maven_command(None, tmp_path, tmp_path / "jvm/bin/java", tmp_path)
    assert command[-1] == "org.codehaus.plexus.classworlds.launcher.Launcher"


def test_the_trust_store_holds_every_certificate():
    ders = [b"first", b"second" * 100]
    pem = "".join(ssl.DER_cert_to_PEM_cert(d) for d in ders)
    assert truststore.certificates("# a comment\n" + pem) == ders
    data = truststore.encode(ders)
    assert struct.unpack_from(">III", data) == (0xFEEDFEED, 2, 2)
    at = 12
    for number, der in enumerate(ders):
        alias = f"ca{number}".encode()
        assert struct.unpack_from(f">IH{len(alias)}sQH5sI", data, at) == (
            2,
            len(alias),
            alias,
            0,
            5,
            b"X.509",
            len(der),
        )
        at += struct.calcsize(f">IH{len(alias)}sQH5sI")
        assert data[at : at + len(der)] == der
        at += len(der)
    assert len(data) - at == 20  # SHA-1
    assert Path(truststore.BUNDLES[0]).suffix == ".crt"
