"""A lock without a hash, or with an address, is refused; a failing installation says what failed."""

import json
from pathlib import Path

import pytest

from tools.npm import fetch

GOOD = {"": {"name": "x"}, "node_modules/a": {"version": "1.0.0", "integrity": "sha512-abc"}}


def lock(packages: object) -> str:
    return json.dumps({"lockfileVersion": 3, "packages": packages})


def test_every_package_needs_its_hash_and_no_address():
    assert fetch.check_lock(lock(GOOD)) == 1
    for wrong, why in (
        ({}, "names no package"),
        (GOOD | {"node_modules/b": {"version": "1"}}, "no sha512 of node_modules/b"),
        (GOOD | {"node_modules/b": {"integrity": "sha1-x"}}, "no sha512 of node_modules/b"),
        (GOOD | {"node_modules/b": {"integrity": "sha512-x", "resolved": "file:b"}}, "an address of node_modules/b"),
    ):
        with pytest.raises(fetch.NpmError, match=why):
            fetch.check_lock(lock(wrong))


def test_a_failing_installation_is_quoted(tmp_path):
    node = tmp_path / "node"
    node.write_text("#!/bin/sh\necho 'npm error code EINTEGRITY' >&2\nexit 1\n")
    node.chmod(0o755)
    with pytest.raises(fetch.NpmError, match=r"(?s)could not install.*EINTEGRITY"):
        fetch.install(node, Path("npm-cli.js"), tmp_path)
