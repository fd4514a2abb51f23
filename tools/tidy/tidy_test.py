"""Each house rule speaks up where it is broken, names the line, and is silent where it is kept."""

import pytest

from tools.tidy import tidy
from tools.tidy.complaint import Source

DOC = '"""What this is for."""\n'
LATER = "TO" + "DO"


def lines(path, text):
    return [(c.line, c.what) for c in tidy.check_source(Source(path, text))]


BROKEN = [
    ("libs/a/b.py", "x = 1\n", 1, "module docstring"),
    ("libs/a/b.py", DOC + "x = 1\n" * 399, 400, "400 lines"),
    ("libs/a/b.bzl", f"# {LATER} later\n", 1, LATER),
    ("libs/a/b.py", DOC + "raise NotImplemented" + "Error\n", 2, "NotImplemented"),
    ("libs/a/b.py", DOC + "x = 1  # pragma: no " + "cover\n", 2, "pragma"),
    ("libs/a/__init__.py", "", 0, "namespace"),
    ("libs/a/b.py", DOC + "try:\n    f()\nexcept Exception:\n    pass\n", 4, "throws it away"),
    ("libs/a/b.py", DOC + "try:\n    f()\nexcept (OSError, BaseException):\n    ...\n", 4, "throws it away"),
    ("libs/a/b.py", DOC + "try:\n    f()\nexcept:\n    raise\n", 4, "unnamed"),
    ("libs/a/b.py", DOC + "with contextlib.suppress(Exception):\n    f()\n", 2, "suppresses"),
    ("libs/a/b_test.py", "def test_a():\n    pytest.skip()\n", 2, "no reason"),
    ("libs/a/b_test.py", 'def test_a():\n    pytest.skip("")\n', 2, "no reason"),
    ("libs/a/b_test.py", "@pytest.mark.skip\ndef test_a():\n    f()\n", 2, "no reason"),
    ("libs/a/b_test.py", "@pytest.mark.skipif(True)\ndef test_a():\n    f()\n", 1, "no reason"),
    ("libs/a/b_test.py", "@pytest.mark.xfail(strict=True)\ndef test_a():\n    f()\n", 1, "no reason"),
    ("services/a/b.py", DOC + "import time\ntime.sleep(1)\n", 3, "time.sleep"),
    ("libs/a/b.py", DOC + "from time import sleep\nsleep(1)\n", 3, "time.sleep"),
    ("libs/a/b.py", DOC + "asyncio.create_task(f())\n", 2, "nobody owns"),
    ("libs/a/b.py", DOC + "q = asyncio.Queue()\n", 2, "no bound"),
    ("services/a/main.py", DOC + "from services.b import x\n", 2, "imports services.b"),
    ("services/a/b_test.py", "import services.b.store\n", 1, "imports services.b"),
    ("libs/a/b.py", DOC + "from services.b import x\n", 2, "imports services.b"),
    ("services/a/domain/x.py", DOC + "import grpc\n", 2, "imports grpc"),
    ("services/a/domain/x.py", DOC + "from google.protobuf import timestamp_pb2\n", 2, "google.protobuf"),
    ("services/a/domain/x.py", DOC + "from wellspring.a.v1 import a_pb2\n", 2, "wellspring.a.v1"),
    ("services/a/domain/deep/x.py", DOC + "import os.path\n", 2, "imports os"),
    ("services/a/domain/x.py", DOC + "import secrets\n", 2, "imports secrets"),
    ("services/a/domain/x.py", DOC + "import time\nx = time.monotonic()\n", 3, "time.monotonic"),
    ("services/a/domain/x.py", DOC + "from random import randint\n", 2, "random.randint"),
    ("services/a/domain/x.py", DOC + "x = datetime.now()\n", 2, "datetime.now"),
    ("services/a/store/x.py", DOC + "from wellspring.a.v1 import a_pb2\n", 2, "generated code"),
    ("services/session/x.py", DOC + "print(1)\n", 2, "prints"),
    ("services/session/x.py", DOC + 'log.info("got", request=request)\n', 2, "request out whole"),
    ("services/session/x.py", DOC + "raise ValueError(str(self.request))\n", 2, "self.request out whole"),
    ("services/session/x.py", DOC + 'x = f"bad: {response}"\n', 2, "response whole"),
    ("services/session/x.py", DOC + "from google.protobuf import text_format\n", 2, "text_format"),
    ("libs/a/b.py", DOC + "def (:\n", 2, "not Python"),
]

KEPT = [
    ("libs/a/b.py", DOC + "x = 1\n" * 398),
    ("libs/a/empty.py", ""),
    ("libs/client/wellspring_client/__init__.py", DOC),
    ("libs/a/b.py", DOC + "try:\n    f()\nexcept Exception as e:\n    log(e)\n"),
    ("libs/a/b.py", DOC + "try:\n    f()\nexcept KeyError:\n    pass\n"),
    ("libs/a/b_test.py", 'def test_a():\n    pytest.skip("needs root")\n'),
    ("libs/a/b_test.py", '@pytest.mark.skipif(True, reason="needs root")\ndef test_a():\n    f()\n'),
    ("tools/a/b.py", DOC + "import time\ntime.sleep(1)\n"),
    ("libs/a/b.py", DOC + "task = group.create_task(f())\n"),
    ("libs/a/b.py", DOC + "q = asyncio.Queue(10)\nr = queue.Queue(maxsize=2)\n"),
    ("libs/a/b.py", DOC + "q = asyncio.Queue()  # tidy: at most one entry for each lease\n"),
    ("services/a/main.py", DOC + "from services.a.domain import x\n"),
    ("tests/system/x_test.py", "from services.a import main\nfrom services.b import main\n"),
    ("services/a/domain/x.py", DOC + "from random import Random\nimport datetime\nimport hashlib\n"),
    ("services/a/domain/x_test.py", "import os\n"),
    ("services/a/servicer.py", DOC + "from wellspring.a.v1 import a_pb2\n"),
    ("services/session/x.py", DOC + 'log.info("got", name=request.name)\nx = f"{request.name}"\n'),
    ("services/storage/x.py", DOC + 'x = f"bad: {response}"\n'),
    ("docs/x.md", f"{LATER}\n"),
]


@pytest.mark.parametrize(("path", "text", "line", "what"), BROKEN)
def test_a_broken_rule_is_told(path, text, line, what):
    found = lines(path, text)
    assert any(number == line and what in said for number, said in found), found


@pytest.mark.parametrize(("path", "text"), KEPT)
def test_a_kept_rule_is_silent(path, text):
    assert lines(path, text) == []


def test_an_excuse_needs_a_reason():
    assert lines("libs/a/b.py", DOC + "q = asyncio.Queue()  # tidy:\n")


@pytest.mark.parametrize(
    ("paths", "what"),
    [
        (["libs/a/b.py"], "no BUILD file"),
        (["docs/decisions/one.md"], "not named"),
        (["docs/decisions/0001-a.md", "docs/decisions/0001-b.md"], "has the number of"),
        (["services/a/main.py", "services/a/BUILD"], "no README.md"),
    ],
)
def test_the_trees_own_rules(paths, what):
    (said,) = tidy.check([Source(path, DOC) for path in paths])
    assert what in said.what and said.remedy


def test_a_complaint_reads_as_place_what_and_what_to_do():
    (said,) = tidy.check_source(Source("libs/a/b.py", "x = 1\n"))
    assert str(said) == "libs/a/b.py:1: has no module docstring; say in one sentence what the module is for"
