"""buildifier over every BUILD, WORKSPACE and .bzl file: its format and its warnings."""

from tools.lint import tree
from tools.lint.fix import BUILDIFIER_WARNINGS, build_files


def test_buildifier(tmp_path):
    root = tree.unpack(tmp_path)
    program = tree.runfile("go_tools/bin/buildifier")
    said = tree.complaints([program, "-mode=check", "-lint=warn", BUILDIFIER_WARNINGS, *build_files(root)], root)
    assert not said, f"to mend most of it: ./bazelw run //tools/lint:fix\n{said}"


def test_what_fix_does_to_build_files_is_nothing_when_they_are_well(tmp_path):
    root = tree.unpack(tmp_path)
    program = tree.runfile("go_tools/bin/buildifier")
    before = {name: (root / name).read_bytes() for name in build_files(root)}
    said = tree.complaints([program, "-lint=fix", BUILDIFIER_WARNINGS, *before], root)
    assert not said, said
    assert [name for name, text in before.items() if (root / name).read_bytes() != text] == []
