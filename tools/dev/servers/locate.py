"""Where the files of a server are: the repositories that `repositories.bzl` declares, or why there are none.

Inside Bazel they are found through the runfiles of the running program. Outside (a plain `pytest`, a debugger), those
that Bazel has already fetched are used: `./bazelw fetch @redis_server//:files` fetches one.
"""

from __future__ import annotations

import os
import unittest
from pathlib import Path

_WORKSPACE = Path(__file__).absolute().parents[3]
_MULTIARCH = "x86_64-linux-gnu"


class ServerUnavailable(unittest.SkipTest):
    """This machine cannot have the server; a test that needs it is skipped with the reason."""


class ServerRequired(RuntimeError):
    """As ServerUnavailable, where servers are required (CI=true or WELLSPRING_REQUIRE_SERVERS=1): the test fails."""


def repository(name: str) -> Path:
    """The folder of the external repository `name`, e.g. "redis_server".

    Raises ServerUnavailable (or ServerRequired) with the reason when the repository could not be had on this machine,
    and LookupError when it was not declared or not fetched.
    """
    folder = _find(name)
    if folder is None:
        raise LookupError(
            f"@{name} is not here: a Bazel test needs //tools/dev/servers:<server> in its deps; outside Bazel run "
            f"'./bazelw fetch @{name}//:files' first"
        )
    marker = folder / "UNAVAILABLE"
    if marker.exists():
        reason = f"@{name} is not available on this machine: {marker.read_text().strip()}"
        raise (ServerRequired if required() else ServerUnavailable)(reason)
    return folder


def required() -> bool:
    """Whether a missing server is a failure instead of a reason to skip."""
    if os.environ.get("CI") == "true" or os.environ.get("WELLSPRING_REQUIRE_SERVERS") == "1":
        return True
    # A sandboxed test does not see those variables: Bazel wrote down what they were.
    policy = _find("server_policy")
    return policy is not None and (policy / "required.txt").read_text().strip() == "1"


def _find(name: str) -> Path | None:
    candidates = [Path(os.environ[v], name) for v in ("RUNFILES_DIR", "TEST_SRCDIR") if v in os.environ]
    candidates.append(_WORKSPACE.parent / name)
    output = _WORKSPACE / ".bazel/out"
    if output.exists():
        # .bazel/out is OUTPUT_BASE/execroot/WORKSPACE/bazel-out; repositories are in OUTPUT_BASE/external.
        candidates.append(output.resolve().parents[2] / "external" / name)
    return next((c for c in candidates if c.is_dir()), None)


def library_environment(root: Path) -> dict[str, str]:
    """The environment in which a program unpacked in `root` finds its shared libraries there."""
    folders = [root / "usr/lib" / _MULTIARCH, root / "lib" / _MULTIARCH, root / "usr/lib" / _MULTIARCH / "varnish"]
    return {"LD_LIBRARY_PATH": ":".join(str(f) for f in folders), "PATH": os.environ.get("PATH", os.defpath)}


def java() -> Path:
    """The `java` that runs the servers (Java 17)."""
    folder = repository("java_runtime")
    named = (folder / "java.txt").read_text().strip()
    path = folder / named  # An absolute name replaces the folder.
    if not path.exists():
        raise ServerRequired(f"{path} is gone since Bazel found it; run './bazelw sync --only=java_runtime'")
    return path


QUICK = "-XX:TieredStopAtLevel=1"
"""For a JVM that lives for a test's few seconds: measured on two cores, a Cassandra node starts with 5.8 s of processor
time instead of 12.3, and its first 2,500 writes take 6.0 s of it instead of 10.8."""


def java_command(heap_mib: int, options: list[str], repository_name: str) -> list[str]:
    """`java` with the heap, the options, and the class path of a repository of jars; the main class is to follow."""
    return [
        str(java()),
        f"-Xms{min(heap_mib, 256)}m",
        f"-Xmx{heap_mib}m",
        "-XX:+UseSerialGC",
        "-XX:+ExitOnOutOfMemoryError",
        "-XX:+PerfDisableSharedMem",
        "-XX:ActiveProcessorCount=2",
        "-Djava.net.preferIPv4Stack=true",
        "-Djava.awt.headless=true",
        *_archived(repository_name),
        *options,
        "-cp",
        _class_path(repository_name),
    ]


def _class_path(repository_name: str) -> str:
    """All jars of a repository, by names that are the same in every sandbox: an archive of classes knows these."""
    jar = next((repository(repository_name) / "jars").glob("*.jar"))
    return f"{jar.resolve().parent}/*"


def _archived(repository_name: str) -> list[str]:
    """The option for the archive of the repository's classes (class_data.py), where Bazel has made one."""
    name = f"{repository_name}.jsa"
    places = [Path(__file__).with_name(name), _WORKSPACE / ".bazel/bin/tools/dev/servers" / name]
    found = next((place for place in places if place.exists() and place.stat().st_size), None)
    return [f"-XX:SharedArchiveFile={found.resolve()}"] if found else []
