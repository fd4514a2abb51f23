"""buildifier over every BUILD, WORKSPACE and .bzl file: its format and its warnings."""

from tools.lint import tree
from tools.lint.fix import build_files

# The macros of tools/ do what these ask for, or the project does without.
OFF = [
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


def test_buildifier(tmp_path):
    root = tree.unpack(tmp_path)
    program = tree.runfile("go_tools/bin/buildifier")
    warnings = ",".join("-" + name for name in OFF)
    said = tree.complaints([program, "-mode=check", "-lint=warn", f"-warnings={warnings}", *build_files(root)], root)
    assert not said, f"to mend most of it: ./bazelw run //tools/lint:fix\n{said}"
