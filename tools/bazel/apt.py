"""A Debian archive seen through apt: one file by its hash, and the signed index that says what there is.

Needs neither root nor `apt-get update`: the index lives in a private apt root, and the machine's own
setup is only asked which mirror it uses.
"""

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HELPER = "/usr/lib/apt/apt-helper"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


class AptError(Exception):
    """What apt could not do, in words for the user."""


class GoneError(AptError):
    """No mirror that was asked has the file (any more)."""


class TamperedError(AptError):
    """A mirror sent a file whose hash is not the one that was asked for."""


@dataclass(frozen=True, order=True)
class Pin:
    """One file of the archive: its path below the mirror's root and its sha256 (hex)."""

    path: str
    sha256: str

    @property
    def file_name(self) -> str:
        return self.path.rsplit("/", 1)[1]

    @property
    def package(self) -> str:
        return self.file_name.split("_", 1)[0]

    @property
    def version(self) -> str:
        return self.file_name.split("_")[1]


def read_lock(text: str) -> list[Pin]:
    """Pins out of lines `sha256  path`; a line of another shape is a ValueError."""
    pins = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        m = re.fullmatch(r"([0-9a-f]{64})  (pool/\S+/[^/_]+_[^/_]+_[^/_]+\.deb)", line)
        if not m:
            raise ValueError(f"debian.lock:{number}: not `sha256  pool/…/name_version_arch.deb`: {line!r}")
        pins.append(Pin(path=m[2], sha256=m[1]))
    return pins


def write_lock(pins: Iterable[Pin]) -> str:
    return "".join(f"{p.sha256}  {p.path}\n" for p in sorted(pins))


def run(command: Sequence[str], env: Mapping[str, str] | None = None) -> tuple[int, str]:
    """The exit code of `command` and all that it printed."""
    done = subprocess.run(
        list(command),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        errors="replace",
        env={**os.environ, "LC_ALL": "C", **(env or {})},
    )
    return done.returncode, done.stdout


def mirrors() -> list[str]:
    """Roots of Debian archives to ask, best first: BAZELW_DEBIAN_MIRROR alone, or those of this machine's apt."""
    explicit = os.environ.get("BAZELW_DEBIAN_MIRROR")
    if explicit:
        return [explicit.rstrip("/")]
    code, out = run(["apt-get", "update", "--print-uris"])
    found = re.findall(r"^'(\S+?)/dists/\S+'", out, re.MULTILINE) if code == 0 else []
    roots = [root for root in dict.fromkeys(found) if "security" not in root]
    return sorted(roots, key=lambda root: not root.endswith("/debian"))


def fetch(pin: Pin, to: Path, roots: Sequence[str]) -> Path:
    """Downloads `pin` to the file `to` from the first of `roots` that has it.

    Raises TamperedError when a mirror's file has another hash (no other mirror is asked then), and
    GoneError, with what each mirror answered, when none has it.
    """
    if to.exists() and hashlib.sha256(to.read_bytes()).hexdigest() == pin.sha256:
        return to
    answers = []
    for root in roots:
        url = f"{root}/{pin.path}"
        code, out = run(
            [HELPER, "-o", "APT::Sandbox::User=root", "download-file", url, str(to), f"SHA256:{pin.sha256}"]
        )
        if code == 0 and hashlib.sha256(to.read_bytes()).hexdigest() == pin.sha256:
            return to
        to.unlink(missing_ok=True)
        if code == 0 or "Hash Sum mismatch" in out:
            raise TamperedError(f"{url} is not the file that was pinned (sha256 {pin.sha256}): refused")
        reasons = [line.strip() for line in out.splitlines() if line.startswith(("E:", "  "))]
        answers.append(f"{url}: {reasons[0] if reasons else 'no answer'}")
    raise GoneError("; ".join(answers) or f"{pin.path}: this machine's apt names no Debian mirror")


class SignedIndex:
    """The package index of one suite, its signature checked by apt itself against `keyring`.

    `folder` becomes the private apt root. `stale` accepts an index past its Valid-Until (of a frozen
    mirror); the signature is checked all the same. Raises AptError when the index cannot be had.
    """

    def __init__(self, root: str, suite: str, folder: Path, keyring: Path = KEYRING, stale: bool = False) -> None:
        self.root = root
        if not keyring.exists():
            raise AptError(f"{keyring} is missing (apt-get install debian-archive-keyring)")
        for d in ("etc/preferences.d", "etc/apt.conf.d", "lists/partial", "cache/archives/partial"):
            (folder / d).mkdir(parents=True, exist_ok=True)
        (folder / "status").write_text("")
        check = "no" if stale else "yes"
        source = f"deb [arch=amd64 check-valid-until={check} signed-by={keyring}] {root} {suite} main\n"
        (folder / "etc/sources.list").write_text(source)
        (folder / "apt.conf").write_text(
            f'Dir::Etc "{folder}/etc"; Dir::State "{folder}"; Dir::State::lists "{folder}/lists";\n'
            f'Dir::State::status "{folder}/status"; Dir::Cache "{folder}/cache";\n'
            'Dir::Etc::trustedparts "/nonexistent"; APT::Architecture "amd64"; APT::Architectures "amd64";\n'
            'APT::Sandbox::User "root"; Acquire::Languages "none"; Acquire::AllowInsecureRepositories "false";\n'
        )
        self._env = {"APT_CONFIG": str(folder / "apt.conf")}
        code, out = run(["apt-get", "-q", "-o", "APT::Update::Error-Mode=any", "update"], self._env)
        if code or re.search(r"^[EW]: ", out, re.MULTILINE):
            said = [line for line in out.splitlines() if line.startswith(("E:", "W:"))]
            raise AptError(f"the signed index of {root} {suite} cannot be used: " + " ".join(said or [out[-500:]]))

    def record(self, package: str) -> dict[str, str]:
        """The index's fields of the newest version of `package`, or of what provides it; AptError without any."""
        _, providers = run(["apt-cache", "showpkg", package], self._env)
        providing = providers.partition("Reverse Provides:")[2].split()
        for name in (package, *providing[:1]):
            code, out = run(["apt-cache", "--no-all-versions", "show", name], self._env)
            fields = dict(re.findall(r"^([A-Za-z0-9-]+): (.*)$", out, re.MULTILINE))
            if code == 0 and {"Package", "Filename", "SHA256"} <= fields.keys():
                return fields
        raise AptError(f"{self.root} has no package {package}")

    def pins(self, packages: Iterable[str], libraries_of: str) -> list[Pin]:
        """A pin for each of `packages` and for the shared libraries that `libraries_of` needs, directly or not."""
        wanted, pins = list(packages), {}
        libraries = {libraries_of}
        for name in wanted:  # grows while it is walked
            if name in pins:
                continue
            fields = self.record(name)
            pins[name] = Pin(path=fields["Filename"], sha256=fields["SHA256"])
            if name in libraries:
                needs = [n for n in depends(fields.get("Depends", "")) if is_library(n)]
                libraries.update(needs)
                wanted += needs
        return sorted(set(pins.values()))


def depends(field: str) -> list[str]:
    """The package names of a Depends field, the first of each alternative."""
    names = [part.split("|")[0].strip() for part in field.split(",") if part.strip()]
    return [re.split(r"[\s:(]", name, maxsplit=1)[0] for name in names]


def is_library(package: str) -> bool:
    """Whether a package holds shared libraries, as Debian names such packages: lib…<number>…, zlib1g."""
    return package == "zlib1g" or bool(re.match(r"lib(?!.*-(java|dev)$).*\d", package))


def say(*words: object) -> None:
    print("bazelw:", *words, file=sys.stderr, flush=True)
