"""The Debian archives that this machine's apt already uses, read without root and without touching apt's own state.

No address is written here: the mirrors are those of the machine's apt sources, or of WELLSPRING_DEBIAN_MIRRORS
(addresses separated by spaces). A file is trusted by its SHA-256 alone; an index is trusted by Debian's signature.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path

from tools.debian.lock import Package

KEYRINGS = ("/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp")
APT_HELPER = "/usr/lib/apt/apt-helper"
# What makes a dependency's alternative or version be left out of a name: "libc6 (>= 2.34)", "gcc:any", "a | b".
_NAME = re.compile(r"^\s*([a-z0-9][a-z0-9+.\-]*)")


class ArchiveError(Exception):
    """The archive could not answer; the text says what was tried and what helps."""


class Gone(ArchiveError):
    """No mirror has the file any more (it was superseded)."""


class Tampered(ArchiveError):
    """A mirror served a file whose SHA-256 is not the expected one."""


def mirrors() -> list[str]:
    """Addresses of the Debian archives known to this machine, each ending in '/'; ArchiveError when there is none."""
    named = os.environ.get("WELLSPRING_DEBIAN_MIRRORS", "").split()
    if named:
        return [m.rstrip("/") + "/" for m in named]
    try:
        found = _run("apt-get", "indextargets", "--no-release-info", "--format", "$(REPO_URI)", "Created-By: Packages")
    except FileNotFoundError as error:
        raise ArchiveError("this machine has no apt-get: Debian's packages cannot be fetched") from error
    debian = [m for m in dict.fromkeys(found.split()) if "debian" in m.split("//", 1)[-1].partition("/")[2]]
    if not debian:
        raise ArchiveError(
            "apt on this machine names no Debian archive; name one or more in WELLSPRING_DEBIAN_MIRRORS "
            "(the folder that holds dists/ and pool/)"
        )
    # The archive itself before its security branch: most files are there.
    return sorted(debian, key=lambda m: "security" in m)


def download(bases: list[str], package: Package, folder: Path) -> Path:
    """Fetches `package` from the first of `bases` that has it into `folder`; returns the file.

    Raises Tampered when a mirror serves other bytes, Gone when every mirror says "not found", ArchiveError otherwise.
    """
    target = folder / package.path.rsplit("/", 1)[1]
    failures = []
    for base in bases:
        command = [APT_HELPER, "-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=3", "download-file"]
        done = subprocess.run(
            [*command, base + package.path, str(target), "SHA256:" + package.sha256],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode == 0:
            return target
        if "Hash Sum mismatch" in done.stdout:
            raise Tampered(f"{package.path}: the mirror's file does not have the SHA-256 {package.sha256}; refused")
        failures.append(done.stdout.strip())
    if failures and all("404" in f or "File not found" in f for f in failures):
        raise Gone(f"{package.path}: no longer on any mirror")
    raise ArchiveError(f"{package.path} could not be fetched:\n" + "\n".join(failures))


def index(bases: list[str], suite: str, architecture: str, folder: Path) -> dict[str, dict[str, str]]:
    """Package name -> control fields of its newest version in `suite` (with -updates and -security), signature checked.

    `folder` becomes a private apt root. WELLSPRING_DEBIAN_STALE_INDEX=1 accepts an index past its Valid-Until, as a
    frozen mirror serves it; the signature is checked all the same.
    """
    keyring = next((k for k in KEYRINGS if Path(k).exists()), None)
    if keyring is None:
        raise ArchiveError(
            "Debian's keyring is not on this machine (package debian-archive-keyring): no index can be trusted"
        )
    for part in ("etc/apt.conf.d", "etc/preferences.d", "lists/partial", "cache/archives/partial"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "status").write_text("")
    checked = "no" if os.environ.get("WELLSPRING_DEBIAN_STALE_INDEX") == "1" else "yes"
    options = f"[check-valid-until={checked} signed-by={keyring}]"
    lines = [
        f"deb {options} {base} {name} main\n"
        for base in bases
        for name in ([f"{suite}-security"] if "security" in base else [suite, f"{suite}-updates"])
    ]
    (folder / "etc/sources.list").write_text("".join(lines))
    (folder / "apt.conf").write_text(
        f'Dir::Etc "{folder}/etc"; Dir::State "{folder}"; Dir::State::lists "{folder}/lists";\n'
        f'Dir::State::status "{folder}/status"; Dir::Cache "{folder}/cache";\n'
        f'APT::Architecture "{architecture}"; APT::Architectures {{ "{architecture}"; }};\n'
        'APT::Sandbox::User "root"; Acquire::Languages "none"; Acquire::Retries "3";\n'
    )
    environment = dict(os.environ, APT_CONFIG=str(folder / "apt.conf"), LC_ALL="C")
    _run("apt-get", "-q", "--error-on=any", "update", env=environment)
    found = {p["Package"]: p for p in stanzas(_run("apt-cache", "dumpavail", env=environment))}
    if not found:
        raise ArchiveError(f"the index of {suite} is empty")
    return found


def stanzas(text: str) -> Iterator[dict[str, str]]:
    """The paragraphs of a Debian control file, each a dict of its fields (continuation lines dropped)."""
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and not line.startswith(" "))
        if fields:
            yield fields


def closure(found: dict[str, dict[str, str]], roots: list[str], without: AbstractSet[str]) -> list[Package]:
    """`roots` and all they need at run time, less `without`, as files of the index `found`; sorted by name.

    Of alternatives the first that exists is taken, of a virtual package the first provider by name.
    """
    providers: dict[str, list[str]] = {}
    for name in sorted(found):
        for virtual in _names(found[name].get("Provides", "")):
            providers.setdefault(virtual[0], []).append(name)
    chosen: dict[str, Package] = {}
    queue = list(roots)
    while queue:
        name = queue.pop()
        if name in chosen or name in without:
            continue
        fields = found.get(name)
        if fields is None:
            raise ArchiveError(f"the index has no package {name}")
        chosen[name] = Package(name, fields["Version"], fields["SHA256"], fields["Filename"])
        for kind in ("Pre-Depends", "Depends"):
            for alternatives in _names(fields.get(kind, "")):
                queue.append(_pick(alternatives, found, providers, without, name))
    return [chosen[name] for name in sorted(chosen)]


def _pick(
    alternatives: list[str],
    found: dict[str, dict[str, str]],
    providers: dict[str, list[str]],
    without: AbstractSet[str],
    needed_by: str,
) -> str:
    for name in alternatives:
        if name in without or name in found:
            return name
    for name in alternatives:
        if name in providers:
            return next((p for p in providers[name] if p in without), providers[name][0])
    raise ArchiveError(f"{needed_by} needs {' | '.join(alternatives)}, which the index lacks")


def _names(relation: str) -> list[list[str]]:
    """'a (>= 1), b | c' -> [['a'], ['b', 'c']]."""
    groups = []
    for part in relation.split(","):
        matches = [_NAME.match(word) for word in part.split("|")]
        names = [m.group(1) for m in matches if m]
        if names:
            groups.append(names)
    return groups


def _run(*command: str, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        said = (done.stdout + done.stderr).strip()
        # apt's own errors, without its progress.
        errors = [line for line in said.splitlines() if line.startswith(("E:", "Err:"))]
        raise ArchiveError(f"'{' '.join(command)}' failed ({done.returncode}): " + ("\n".join(errors) or said[-2000:]))
    return done.stdout
