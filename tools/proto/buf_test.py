"""The contracts of the tree pass buf's rules and break no golden set; and the gate does close."""

import shutil
import tempfile
from pathlib import Path

import pytest

from tools.lint import tree
from tools.proto.buf import Buf

PROTO = """syntax = "proto3";
package toy.v1;
import "google/rpc/status.proto";
message Thing {
  string name = 1;
  google.rpc.Status status = 2;
}
"""


def make(checkout, folder):
    folder.mkdir()
    site = tree.runfile("pypi/googleapis_common_protos/site")
    return Buf(checkout, folder, tree.runfile("pypi/buf_bin/bin/buf").resolve(), site)


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    tmp = tmp_path_factory.mktemp("ours")
    return make(tree.unpack(tmp / "tree"), tmp / "staged")


@pytest.fixture
def toy(tmp_path):
    """A checkout with one proto; `toy(text)` stages it with that text."""
    checkout = tmp_path / "checkout"
    (checkout / "protos/toy/v1").mkdir(parents=True)
    shutil.copy(tree.unpack(tmp_path / "tree") / "buf.yaml", checkout)

    def stage(text):
        (checkout / "protos/toy/v1/toy.proto").write_text(text)
        return make(checkout, Path(tempfile.mkdtemp(dir=tmp_path)) / "staged")

    return stage


def test_our_protos_pass_the_rules(ours):
    code, out = ours.run("lint", "protos")
    assert code == 0, out


def test_our_protos_break_nothing(ours):
    assert not (found := ours.breaking()), "\n".join(found)


def test_an_unchanged_and_an_added_field_pass(toy):
    toy(PROTO).update()
    assert toy(PROTO).breaking() == []
    assert toy(PROTO.replace("name = 1;", "name = 1;\n  string more = 3;")).breaking() == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("string name = 1", "bytes name = 1"),
        ("string name = 1", "string title = 1"),
        ("  string name = 1;\n", ""),
        ("message Thing", "message Other"),
    ],
)
def test_a_breaking_change_is_told_with_what_to_do(toy, old, new):
    toy(PROTO).update()
    (said,) = toy(PROTO.replace(old, new)).breaking()
    assert "toy.proto" in said and "//tools/proto:golden -- update" in said


def test_a_package_without_a_golden_set_is_told(toy):
    (said,) = toy(PROTO).breaking()
    assert "protos/toy/v1: has no golden descriptor set" in said


def test_a_broken_rule_is_told_with_its_place(toy):
    code, out = toy(PROTO.replace("string name", "string Name")).run("lint", "protos")
    assert code != 0 and "toy.proto:5" in out


def test_golden_sets_of_deleted_packages_are_removed(toy):
    buf = toy(PROTO)
    stray = buf.checkout / "protos/golden/gone.v1.binpb"
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"")
    buf.update()
    assert not stray.exists()
