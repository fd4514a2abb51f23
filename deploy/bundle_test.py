"""The release as those who install it have it: unpacked somewhere, run by the machine's Python."""

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

BUNDLE = Path(os.path.abspath(__file__)).parent / "wellspring.tar.gz"


def test_the_bundle_runs_where_it_is_unpacked(tmp_path):
    with tarfile.open(BUNDLE) as archive:
        archive.extractall(tmp_path)
    (top,) = tmp_path.iterdir()
    assert (top / "VERSION").read_text().strip() == top.name.removeprefix("wellspring-")
    program = str(top / "bin" / "wellspring")
    environment = {"PATH": os.environ.get("PATH", os.defpath), "PYTHON": sys.executable, "HOME": str(tmp_path)}

    def run(*arguments):
        return subprocess.run(
            [program, *arguments], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120
        )

    told = run("--help")
    assert told.returncode == 0 and "demo" in told.stdout, told.stderr
    found = [json.loads(line) for line in run("doctor", "--json").stdout.splitlines()]
    assert {"python", "versions", "disk"} <= {finding.get("check") for finding in found}
    for service in ("storage", "session", "propagation", "gateway", "executor", "auditor"):
        done = run("serve", service, "--print-config")
        # What a service cannot do without is asked for by name; nothing is missing from the bundle.
        assert done.returncode in (0, 78) and "Traceback" not in done.stderr, done.stderr
