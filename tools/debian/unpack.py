"""Debian packages unpacked into a folder that can be moved: nothing is installed, no script of a package runs."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

# Nothing that a program reads at run time here.
_PRUNED = (
    "lib/systemd",
    "usr/lib/systemd",
    "usr/lib/sysusers.d",
    "usr/lib/tmpfiles.d",
    "usr/share/bash-completion",
    "usr/share/bug",
    "usr/share/doc",
    "usr/share/doc-base",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/maven-repo",
    "usr/share/perl5",
    "var",
)


def unpack(files: list[Path], root: Path) -> None:
    """Unpacks the .deb `files` into `root`; links stay inside `root`, and those that lead nowhere are dropped."""
    root.mkdir(parents=True, exist_ok=True)
    for file in files:
        done = subprocess.run(["dpkg-deb", "-x", str(file), str(root)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise OSError(f"dpkg-deb could not unpack {file.name}: {done.stderr.strip()}")
    for name in _PRUNED:
        shutil.rmtree(root / name, ignore_errors=True)
    _bind_links(root)


def _bind_links(root: Path) -> None:
    """Makes absolute links relative to `root`; drops links that lead nowhere or out, and names no label can hold."""
    links = []
    for folder, names, files in os.walk(root):
        for name in [*names, *files]:
            path = Path(folder, name)
            if path.is_symlink():
                links.append(path)
                target = os.readlink(path)
                if target.startswith("/"):
                    path.unlink()
                    path.symlink_to(os.path.relpath(f"{root}{target}", folder))
            elif path.is_file() and (":" in name or "\\" in name):
                path.unlink()
    top = root.resolve()
    while dead := [p for p in links if p.is_symlink() and not _inside(p, top)]:
        for path in dead:
            path.unlink()


def _inside(link: Path, top: Path) -> bool:
    resolved = Path(os.path.realpath(link))
    return resolved.exists() and resolved.is_relative_to(top)
