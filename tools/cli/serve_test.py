"""`wellspring serve` is the service itself: its options, its exit statuses."""

import os
import subprocess
import sys

import pytest

from tools.platform.layout import MODULES


def serve(*arguments):
    return wellspring("serve", *arguments)


def wellspring(*arguments):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-m", "tools.cli.main", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("service", list(MODULES))
def test_every_service_says_what_it_takes(service):
    done = serve(service, "--help")
    assert done.returncode == 0 and "--print-config" in done.stdout


def test_a_service_that_cannot_start_says_why_with_its_own_status(tmp_path):
    config = tmp_path / "storage.yaml"
    config.write_text("backend: {embedded: {path: x}}\nserver: {lissten: []}\n", encoding="utf-8")
    done = serve("storage", "--config", str(config))
    assert done.returncode == 78 and "storage.yaml:2" in done.stderr and "Traceback" not in done.stderr


def test_migrations_are_for_backends_that_have_some(tmp_path):
    done = wellspring("storage", "migrate", "--set", f"backend.embedded.path={tmp_path}")
    assert done.returncode == 78 and "only the backend cassandra" in done.stderr and "Traceback" not in done.stderr


def test_an_unknown_service_is_a_wrong_use():
    done = serve("storrage")
    assert done.returncode == 2 and "storrage" in done.stderr and "propagation" in done.stderr
