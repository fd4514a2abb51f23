"""The report after `bazelw test`, over build event files as Bazel 7.7 writes them."""

import json
import subprocess
import sys

import pytest

from tools.bazel import test_command
from tools.bazel.summary import summarise


def junit(path, *cases):
    path.write_text(
        '<?xml version="1.0"?><testsuites><testsuite name="pytest">' + "".join(cases) + "</testsuite></testsuites>"
    )
    return path


def case(name, inner=""):
    return f'<testcase classname="pkg.mod" name="{name}">{inner}</testcase>'


def configured(label):
    return {"id": {"targetConfigured": {"label": label}}, "configured": {"testSize": "SMALL"}}


def result(label, status, xml=None, attempt=1, shard=1, **more):
    out = [{"name": "test.log", "uri": "file:///nowhere"}]
    if xml:
        out.append({"name": "test.xml", "uri": f"file://{xml}"})
    identity = {"label": label, "run": 1, "shard": shard, "attempt": attempt}
    return {"id": {"testResult": identity}, "testResult": {"status": status, "testActionOutput": out, **more}}


@pytest.fixture
def report(tmp_path):
    def make(*events, code=0):
        path = tmp_path / "events.json"
        path.write_text("".join(json.dumps(e) + "\n" for e in events))
        return summarise(path, code).lines()

    return make


def test_passed_cases_are_summed(report, tmp_path):
    a = junit(tmp_path / "a.xml", case("one"), case("two"))
    b = junit(tmp_path / "b.xml", case("three"))
    assert report(configured("//a"), result("//a", "PASSED", a), result("//b", "PASSED", b)) == ["3 passed, 0 failed"]


def test_failures_and_skips_are_named_with_reasons(report, tmp_path):
    xml = junit(
        tmp_path / "a.xml",
        case("good"),
        case("bad", '<failure message="assert 1 == 2&#10;  more">text</failure>'),
        case("broken", '<error message="fixture failed"/>'),
        case("later", '<skipped type="pytest.skip" message="#x1B[1mneeds root#x1B[0m"/>'),
    )
    assert report(result("//a", "FAILED", xml), code=3) == [
        "SKIPPED //a pkg.mod::later: needs root",
        "FAILED //a pkg.mod::bad: assert 1 == 2 more",
        "FAILED //a pkg.mod::broken: fixture failed",
        "1 passed, 2 failed, 1 skipped",
    ]


def test_a_timeout_counts_as_failed_even_with_a_report(report, tmp_path):
    xml = junit(tmp_path / "a.xml", case("a", '<error message="error code 142"/>'))
    lines = report(result("//a", "TIMEOUT", xml, statusDetails=""), code=3)
    assert lines == ["FAILED //a: timeout (no failing test case in its report)", "0 passed, 1 failed"]


def test_a_crash_after_a_good_report_counts_as_failed(report, tmp_path):
    xml = junit(tmp_path / "a.xml", case("a"))
    assert report(result("//a", "FAILED", xml), code=3)[-1] == "1 passed, 1 failed"


def test_a_report_cut_short_counts_as_failed(report, tmp_path):
    (tmp_path / "a.xml").write_text("<testsuites><testcase name=")
    assert report(result("//a", "FAILED", tmp_path / "a.xml"), code=3)[-1] == "0 passed, 1 failed"


def test_only_the_last_attempt_counts(report, tmp_path):
    bad = junit(tmp_path / "1.xml", case("a", '<failure message="flaked"/>'))
    good = junit(tmp_path / "2.xml", case("a"))
    events = [result("//a", "FAILED", bad, attempt=1), result("//a", "PASSED", good, attempt=2)]
    assert report(*events) == ["1 passed, 0 failed"]


def test_shards_are_told_apart(report, tmp_path):
    xml = junit(tmp_path / "1.xml", case("a"))
    lines = report(result("//a", "PASSED", xml, shard=1), result("//a", "TIMEOUT", shard=2), code=3)
    assert lines[0].startswith("FAILED //a (run 1, shard 2): timeout")


def test_a_target_that_failed_to_build_is_named(report):
    failed = {"id": {"targetCompleted": {"label": "//a"}}, "completed": {"failureDetail": {"message": "no such file"}}}
    assert report(configured("//a"), failed, code=1) == ["FAILED //a: no such file", "0 passed, 1 failed"]


def test_an_incompatible_target_is_skipped_with_its_reason(report):
    skipped = {
        "id": {"targetCompleted": {"label": "//a"}},
        "aborted": {"reason": "SKIPPED", "description": "not for arm"},
    }
    assert report(configured("//a"), skipped) == ["SKIPPED //a: not for arm", "0 passed, 0 failed, 1 skipped"]


def test_a_build_that_was_ended_names_what_it_did_not_run(report):
    lines = report(configured("//a"), configured("//b"), result("//a", "PASSED"), code=8)
    assert lines == [
        "SKIPPED //b: not run, the build ended before",
        "FAILED bazel: ended with exit code 8 (see above)",
        "1 passed, 1 failed, 1 skipped",
    ]


def test_a_pattern_that_cannot_be_loaded_is_named(report):
    event = {
        "id": {"pattern": {"pattern": ["//nowhere/..."]}},
        "aborted": {"reason": "LOADING_FAILURE", "description": "no targets found"},
    }
    assert report(event, code=1) == ["FAILED //nowhere/...: no targets found", "0 passed, 1 failed"]


def test_no_event_file_at_all(tmp_path):
    assert summarise(tmp_path / "none", 2).lines() == [
        "FAILED bazel: ended with exit code 2 (see above)",
        "0 passed, 1 failed",
    ]


def test_a_last_line_cut_short_is_left_out(tmp_path):
    path = tmp_path / "events.json"
    path.write_text(json.dumps(result("//a", "PASSED")) + '\n{"id": {"testRes')
    assert summarise(path, 0).lines() == ["1 passed, 0 failed"]


@pytest.mark.parametrize(
    ("words", "want"),
    [
        (["bazel", "test", "//..."], None),
        (["bazel", "test", "--build_event_json_file=/x", "//..."], "/x"),
        (["bazel", "test", "--build_event_json_file", "/y", "//..."], "/y"),
        (["bazel", "test", "--", "--build_event_json_file=/x"], None),
    ],
)
def test_the_users_own_event_file(words, want):
    found = test_command.event_file(words)
    assert (str(found) if found else None) == want


@pytest.mark.parametrize("code", [0, 3])
def test_bazels_exit_code_and_output_are_kept(tmp_path, code):
    xml = junit(tmp_path / "a.xml", case("a"))
    events = json.dumps(result("//a", "PASSED", xml))
    fake = tmp_path / "bazel"
    fake.write_text(
        f"#!{sys.executable}\nimport sys\nprint('args', sys.argv[1], sys.argv[-1])\n"
        "path = [a for a in sys.argv if a.startswith('--build_event_json_file=')][0].partition('=')[2]\n"
        f"open(path, 'w').write({events!r})\nsys.exit({code})\n"
    )
    fake.chmod(0o755)
    command = [sys.executable, "-m", "tools.bazel.test_command", str(fake), "--batch", "test", "//..."]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert done.stdout.splitlines()[0] == "args --batch //..."
    assert done.stdout.splitlines()[-1] == ("1 passed, 0 failed" if code == 0 else "1 passed, 1 failed")
