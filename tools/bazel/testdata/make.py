"""Makes the small signed Debian archives beside this file anew, with a new throwaway key (needs gpg).

`current` has Bazel 7.7.2 with a renamed library; `expired` the same with an index past its
Valid-Until; `moved` has Bazel 8. The "packages" are one line of text each.
"""

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ARCHIVES = {
    "current": ("7.7.2-1", ""),
    "expired": ("7.7.2-1", "Sat, 02 Jan 2021 00:00:00 UTC"),
    "moved": ("8.1.0-1", ""),
}


def packages(bazel: str) -> list[tuple[str, str, str]]:
    """Name, version, Depends."""
    return [
        ("bazel-bootstrap", bazel, "python3, libtext-java, libgrpc30 (>= 1.2), libre2-11-virtual | other"),
        ("libgrpc30", "1.60-1", "libc6 (>= 2.38)"),
        ("libre2-11", "2026-1", "libc6"),
        ("libc6", "2.43-8", ""),
        ("libtext-java", "1.0-2", "libjava-helper-java"),
    ]


def write(folder: Path, version: str, valid_until: str, gpg: list[str]) -> None:
    entries = []
    for name, v, depends in packages(version):
        path = f"pool/main/{name[0]}/{name}/{name}_{v}_amd64.deb"
        data = f"{name} {v}\n".encode()
        (folder / path).parent.mkdir(parents=True)
        (folder / path).write_bytes(data)
        text = f"Package: {name}\nVersion: {v}\nArchitecture: amd64\nMaintainer: Nobody <nobody@localhost>\n"
        text += f"Depends: {depends}\n" if depends else ""
        text += "Provides: libre2-11-virtual\n" if name == "libre2-11" else ""
        text += f"Filename: {path}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n"
        entries.append(text + "Description: text\n")
    listing = "\n".join(entries).encode()
    dist = folder / "dists/unstable"
    (dist / "main/binary-amd64").mkdir(parents=True)
    (dist / "main/binary-amd64/Packages").write_bytes(listing)
    release = "Origin: Test\nSuite: unstable\nCodename: sid\nDate: Fri, 01 Jan 2021 00:00:00 UTC\n"
    release += f"Valid-Until: {valid_until}\n" if valid_until else ""
    release += "Architectures: amd64\nComponents: main\nSHA256:\n"
    release += f" {hashlib.sha256(listing).hexdigest()} {len(listing)} main/binary-amd64/Packages\n"
    subprocess.run([*gpg, "--clearsign", "-o", dist / "InRelease"], input=release.encode(), check=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as home:
        gpg = ["gpg", "--homedir", home, "--batch", "--quiet", "--digest-algo", "SHA512"]
        new_key = [
            "--passphrase",
            "",
            "--quick-generate-key",
            "test archive <nobody@localhost>",
            "rsa3072",
            "sign",
            "never",
        ]
        subprocess.run([*gpg, *new_key], check=True)
        (HERE / "key.gpg").unlink(missing_ok=True)
        subprocess.run([*gpg, "--export", "-o", HERE / "key.gpg"], check=True)
        for name, (version, valid_until) in ARCHIVES.items():
            shutil.rmtree(HERE / name, ignore_errors=True)
            write(HERE / name, version, valid_until, gpg)


if __name__ == "__main__":
    main()
