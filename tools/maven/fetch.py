"""Resolves a lock's artifacts with Maven and checks every jar: `python3 -m tools.maven.fetch --lock FILE --out FOLDER`.

FOLDER/jars gets the jars. Maven takes them from wherever this machine's Maven is set up to. Exit code 1 and a reason
on stderr when they cannot be had, or when one is not what the lock says: then FOLDER/jars is not made.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tools.maven import lock, truststore

_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"
_ATTEMPTS = 3  # A registry hiccup is not a reason to go without.
_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>wellspring</groupId><artifactId>classpath</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
{dependencies}  </dependencies>
</project>
"""


class MavenError(Exception):
    """Maven could not resolve the artifacts, or brought something else than was locked."""


def pom(artifacts: list[str]) -> str:
    """A Maven project that depends on `artifacts` (GROUP:ARTIFACT:VERSION)."""
    lines = []
    for coordinates in artifacts:
        group, artifact, version = coordinates.split(":")
        names = f"<groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version>"
        lines.append(f"    <dependency>{names}</dependency>\n")
    return _POM.format(dependencies="".join(lines))


def maven_command(
    mvn: str | None, maven_root: Path | None, java: Path, scratch: Path
) -> tuple[list[str], dict[str, str]]:
    """Command and further environment of Maven: the machine's `mvn`, or Debian's unpacked in `maven_root`."""
    home = java.resolve().parent.parent
    if mvn:
        return [mvn], {"JAVA_HOME": str(home)}
    if maven_root is None:
        raise MavenError("no Maven: neither --mvn nor --maven-root")
    maven = maven_root / "usr/share/maven"
    options = [
        f"-Dclassworlds.conf={maven}/bin/m2.conf",
        f"-Dmaven.home={maven}",
        f"-Dmaven.multiModuleProjectDirectory={scratch}",
    ]
    if not (home / "lib/security/cacerts").exists():
        store = scratch / "cacerts"
        if not truststore.write(store):
            raise MavenError(
                "no certificate authorities on this machine (package ca-certificates): Maven could trust no server"
            )
        options += [f"-Djavax.net.ssl.trustStore={store}", f"-Djavax.net.ssl.trustStorePassword={truststore.PASSWORD}"]
    boot = f"{maven}/boot/plexus-classworlds-2.x.jar"
    return [str(java), *options, "-cp", boot, "org.codehaus.plexus.classworlds.launcher.Launcher"], {}


def resolve(
    artifacts: list[str], command: list[str], environment: dict[str, str], scratch: Path, jars: Path
) -> dict[str, str]:
    """Puts the jars of `artifacts` into the folder `jars`; returns file name -> SHA-256."""
    (scratch / "pom.xml").write_text(pom(artifacts))
    arguments = [
        "-B",
        "-q",
        "-f",
        str(scratch / "pom.xml"),
        _COPY,
        f"-DoutputDirectory={jars}",
        "-DincludeScope=runtime",
    ]
    for attempt in range(1, _ATTEMPTS + 1):
        done = subprocess.run(
            [*command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | environment,
            cwd=scratch,
            check=False,
        )
        if done.returncode == 0:
            break
        if attempt == _ATTEMPTS:
            raise MavenError(
                f"Maven failed ({done.returncode}), {_ATTEMPTS} times; the last time it said:\n{done.stdout[-3000:]}"
            )
    return {jar.name: hashlib.sha256(jar.read_bytes()).hexdigest() for jar in sorted(jars.glob("*.jar"))}


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options that this program and `relock` share."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--mvn", help="Maven's program")
    options.add_argument("--maven-root", type=Path, help="where Debian's Maven is unpacked, instead of --mvn")
    options.add_argument("--java", type=Path, required=True, help="the java to run it with")
    return options


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--lock", type=Path, required=True)
    options.add_argument("--out", type=Path, required=True)
    chosen = options.parse_args()
    try:
        wanted = lock.read(chosen.lock)
        # On the same file system as the result, so that it appears whole or not at all.
        with tempfile.TemporaryDirectory(prefix=".maven-", dir=chosen.out) as name:
            scratch = Path(name)
            command, environment = maven_command(chosen.mvn, chosen.maven_root, chosen.java, scratch)
            found = resolve(wanted.artifacts, command, environment, scratch, scratch / "jars")
            wrong = lock.differences(wanted.jars, found)
            if wrong:
                raise MavenError(f"not what {chosen.lock.name} says; nothing is used of it:\n  " + "\n  ".join(wrong))
            (scratch / "jars").rename(chosen.out / "jars")
    except (MavenError, lock.LockError, OSError) as error:
        print(f"maven: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
