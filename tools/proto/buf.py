"""buf over the checkout's protos, offline, and the golden descriptor sets of protos/golden.

buf wants what our protos import (google/rpc and its neighbours) as a module beside them. They come from the
locked wheel, so the checkout is staged in a temporary folder: buf.yaml with that module added, links to both.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import yaml

GOLDEN = "protos/golden"


class Buf:
    """buf on a staged copy of `checkout`, below `folder`; `site` is the wheel's folder that holds google/."""

    def __init__(self, checkout: Path, folder: Path, program: Path, site: Path) -> None:
        self.checkout, self.folder, self.program = checkout, folder, program
        config = yaml.safe_load((checkout / "buf.yaml").read_text(encoding="utf-8"))
        config["modules"].append({"path": "googleapis"})
        (folder / "buf.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        shutil.copytree(checkout / "protos", folder / "protos", ignore=shutil.ignore_patterns("golden"))
        for proto in (site / "google").rglob("*.proto"):
            to = folder / "googleapis" / proto.relative_to(site)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(proto, to)

    def run(self, *args: object) -> tuple[int, str]:
        """The exit code of `buf ARGS` in the staged folder, and what it printed."""
        env = {**os.environ, "BUF_CACHE_DIR": str(self.folder / ".cache"), "HOME": str(self.folder)}
        command = [str(self.program), *(str(a) for a in args)]
        done = subprocess.run(
            command, cwd=self.folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        return done.returncode, done.stdout

    def packages(self) -> list[str]:
        """Folders of .proto files, relative to protos/: `wellspring/storage/v1`."""
        protos = self.folder / "protos"
        return sorted({p.parent.relative_to(protos).as_posix() for p in protos.rglob("*.proto")})

    def golden(self, package: str) -> Path:
        """The golden descriptor set of a package: protos/golden/wellspring.storage.v1.binpb."""
        return self.checkout / GOLDEN / (package.replace("/", ".") + ".binpb")

    def update(self) -> list[Path]:
        """Writes the golden descriptor set of every package from what the checkout has now; their paths."""
        written = []
        for package in self.packages():
            path = self.golden(package)
            path.parent.mkdir(exist_ok=True)
            options = ["--exclude-source-info", "--path", f"protos/{package}", "-o", path]
            code, out = self.run("build", "protos", *options)
            if code:
                raise SystemExit(f"{package}: {out}")
            written.append(path)
        for old in (self.checkout / GOLDEN).glob("*.binpb"):
            if old not in written:
                old.unlink()
        return written

    def breaking(self) -> list[str]:
        """One text for each package that has no golden set, or that breaks with it."""
        command = "./bazelw run //tools/proto:golden -- update"
        found = []
        for package in self.packages():
            if not self.golden(package).exists():
                found.append(f"protos/{package}: has no golden descriptor set in {GOLDEN}; make it: {command}")
        for golden in sorted((self.checkout / GOLDEN).glob("*.binpb")):
            code, out = self.run("breaking", "protos", "--against", golden)
            if code:
                hint = "old clients would break. Add instead of changing; at a release that may break them:"
                found.append(f"{out.strip()}\n{golden.name}: {hint} {command}")
        return found


def main(argv: Sequence[str]) -> int:
    """`golden update` rewrites the sets, `golden check` compares with them, `lint` runs buf's rules."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--buf", required=True, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--googleapis", required=True, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("command", choices=["update", "check", "lint"])
    args = parser.parse_args(argv)
    checkout = Path(os.environ.get("BUILD_WORKSPACE_DIRECTORY", "."))
    with tempfile.TemporaryDirectory() as tmp:
        buf = Buf(checkout, Path(tmp), args.buf.resolve(), args.googleapis.resolve())
        if args.command == "update":
            for path in buf.update():
                print("wrote", path.relative_to(checkout))
            return 0
        found = (
            buf.breaking() if args.command == "check" else [out for code, out in [buf.run("lint", "protos")] if code]
        )
    print("\n".join(found) or "nothing to complain about")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
