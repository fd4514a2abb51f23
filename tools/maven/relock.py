"""Rewrites the jar lines of locks: `python3 -m tools.maven.relock --java JAVA --mvn MVN tools/maven/locks/*.lock`.

Run it from the top of the repository after a change of an `artifact` line, and read the difference before committing
it: the first resolution is the one that is trusted.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tools.maven import fetch, lock


def main() -> int:
    options = fetch.parser(__doc__)
    options.add_argument("locks", type=Path, nargs="+")
    chosen = options.parse_args()
    try:
        for path in chosen.locks:
            with tempfile.TemporaryDirectory(prefix="maven-") as name:
                scratch = Path(name)
                command, environment = fetch.maven_command(chosen.mvn, chosen.maven_root, chosen.java, scratch)
                jars = fetch.resolve(lock.read(path).artifacts, command, environment, scratch, scratch / "jars")
            path.write_text(lock.replace_jars(path.read_text(), jars))
            print(f"{path}: {len(jars)} jars")
    except (fetch.MavenError, lock.LockError, OSError) as error:
        print(f"relock: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
