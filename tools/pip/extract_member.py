"""Downloads one wheel by hash and takes one file out of it, whose own hash is checked too."""

import argparse
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path


def extract(wheel: Path, member: str, sha256: str, out: Path) -> None:
    """Writes `member` of `wheel` to `out`; exits with a reason when it is not there or not as locked."""
    with zipfile.ZipFile(wheel) as archive:
        try:
            data = archive.read(member)
        except KeyError:
            raise SystemExit(f"{wheel.name} has no member {member}") from None
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise SystemExit(f"{member} of {wheel.name} has sha256 {found}, locked is {sha256}")
    out.write_bytes(data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requirement", required=True, type=Path, help="a file: name==version --hash=sha256:...")
    for option in ("--python-version", "--platform", "--member", "--member-sha256"):
        parser.add_argument(option, required=True)
    parser.add_argument("--out", required=True, type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as tmp:
        command = [sys.executable, "-I", "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += ["--require-hashes", "--no-deps", "--only-binary=:all:", "--progress-bar=off", "--dest", tmp]
        command += ["--implementation", "cp", "--python-version", args.python_version, "--platform", args.platform]
        subprocess.run([*command, "--requirement", str(args.requirement)], check=True)
        (wheel,) = Path(tmp).glob("*.whl")
        extract(wheel, args.member, args.member_sha256, args.out)


if __name__ == "__main__":
    main()
