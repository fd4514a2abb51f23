"""requirements.in, its lock and the table of reasons say the same."""

import re

import pytest

from tools.lint import tree
from tools.pip.requirements import canonical, read_requirements


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    root = tree.unpack(tmp_path_factory.mktemp("tree"))
    (decision,) = (root / "docs/decisions").glob("0002-*.md")
    texts = ((root / "third_party/python" / n).read_text() for n in ("requirements.in", "requirements.lock"))
    return (*texts, decision.read_text())


def test_every_requirement_is_locked_and_every_lock_has_hashes(files):
    wanted, lock, _ = files
    entries = re.findall(
        r"^([a-z0-9-]+)==([^ ]+)( ; [^\\]+)? \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", lock, re.M
    )
    assert lock.count("==") - lock.count('"') // 2 <= len(entries), "an entry of the lock is not as relock writes it"
    names = [entry[0] for entry in entries]
    assert names == sorted(set(names))
    assert {r.name for r in read_requirements(wanted)} <= set(names)


def test_every_requirement_has_its_reason(files):
    wanted, _, decision = files
    rows = {canonical(m) for m in re.findall(r"^\| ([A-Za-z0-9._-]+) \| ", decision, re.M)} - {"package"}
    named = {r.name for r in read_requirements(wanted)}
    assert rows == named, f"without a reason: {sorted(named - rows)}; reasons for nothing: {sorted(rows - named)}"
