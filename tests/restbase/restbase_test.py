"""RESTBase's own suite for table backends, run on the storage service, says what exceptions.json and the README say."""

import asyncio
import json
import signal
from collections import Counter
from pathlib import Path

import pytest

from services.storage.server_process import Process
from tests.restbase import front, running

HERE = Path(__file__).absolute().parent
BEGIN, END = "<!-- made of a run of the suite: begin -->", "<!-- end -->"


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory):
    server = Process(tmp_path_factory.mktemp("storage") / "data")
    server.start()

    async def run() -> list[running.Verdict]:
        async with front.serving(server.address) as url:
            return await running.verdicts(url)

    try:
        return asyncio.run(run())
    finally:
        assert server.end(signal.SIGTERM) == 0


def table(verdicts: list[running.Verdict], reasons: dict[str, str]) -> str:
    """What the README says of a run."""
    groups = Counter(group_of(one) for one in verdicts)
    passed = Counter(group_of(one) for one in verdicts if not one.error)
    share = sum(passed.values()) / len(verdicts)
    lines = ["| group | tests | pass |", "|---|---|---|"]
    lines += [f"| {name} | {count} | {passed[name]} |" for name, count in groups.items()]
    lines += [f"| **all** | **{len(verdicts)}** | **{sum(passed.values())}** ({share:.0%}) |", ""]
    lines += ["| exception | reason |", "|---|---|"] if reasons else ["No exceptions."]
    lines += [f"| {title} | {reason} |" for title, reason in sorted(reasons.items())]
    return "\n".join(lines)


def group_of(verdict: running.Verdict) -> str:
    known = ("Simple tables", "Multiranged tables", "Schema migration", "Types", "Varint tables")
    return next((name for name in (*known, "Invalid request handling") if verdict.title.startswith(name)), "other")


def test_what_fails_is_what_has_a_reason(verdicts):
    reasons = json.loads((HERE / "exceptions.json").read_text())
    failed = {one.title: one.error for one in verdicts if one.error}
    assert failed.keys() == reasons.keys(), json.dumps(failed, indent=2)


def test_the_readme_says_how_many_pass(verdicts):
    reasons = json.loads((HERE / "exceptions.json").read_text())
    readme = (HERE / "README.md").read_text()
    assert readme.count(BEGIN) == readme.count(END) == 1
    said = readme.partition(BEGIN)[2].partition(END)[0].strip()
    told = table(verdicts, reasons)
    assert said == told, f"put this between the marks in tests/restbase/README.md:\n\n{told}\n"


def test_a_run_that_broke_off_is_no_run():
    with pytest.raises(running.SuiteError, match="did not come to its end"):
        running.read('{"stats": 1')
    hook = {"fullTitle": '"before all" hook', "err": {"message": "x"}}
    told = {"stats": {}, "tests": [], "pending": [], "failures": [hook], "passes": []}
    with pytest.raises(running.SuiteError, match="before all"):
        running.read("Expected:\n" + json.dumps(told, indent=2))
