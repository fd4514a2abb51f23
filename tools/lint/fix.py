"""Mends and formats the checkout: ruff on Python, buildifier on BUILD files; `./bazelw run //tools/lint:fix`."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from tools.lint.pack_tree import files

BUILD_FILES = ("BUILD", ".bzl", "WORKSPACE")
# The macros of tools/ do what these ask for, or the project does without.
_OFF = [
    "module-docstring",
    "function-docstring",
    "function-docstring-args",
    "native-py",
    "native-proto",
    "native-proto-info",
    "native-cc-common",
    "native-cc-toolchain",
    "native-cc-toolchain-config-info",
    "load-on-top",
]
BUILDIFIER_WARNINGS = "-warnings=" + ",".join("-" + name for name in _OFF)


def build_files(root: Path) -> list[str]:
    """BUILD, WORKSPACE and .bzl files below `root`, as paths relative to it."""
    tops = [p.name for p in root.iterdir() if p.name not in (".git", ".bazel")]
    return [f for f in files(root, tops) if f.rsplit("/", 1)[-1] in BUILD_FILES or f.endswith(".bzl")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ruff", required=True, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--buildifier", required=True, type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    ruff, buildifier = args.ruff.absolute(), args.buildifier.absolute()
    root = Path(os.environ["BUILD_WORKSPACE_DIRECTORY"])
    codes = [
        subprocess.call([ruff, "check", "--no-cache", "--fix", "."], cwd=root),
        subprocess.call([ruff, "format", "--no-cache", "."], cwd=root),
        subprocess.call([buildifier, "-lint=fix", BUILDIFIER_WARNINGS, *build_files(root)], cwd=root),
    ]
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
