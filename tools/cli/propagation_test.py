"""The commands of propagation, against a real platform that renders a small wiki."""

import json

import pytest

from tools.cli import failures
from tools.cli.fixture import Shell, platform_shell
from tools.demo import wiki
from tools.platform.layout import Route
from tools.platform.site import Site

PAGES = {"Home": "{{Box}} home", "Away": "{{Box}} away", "Alone": "on its own"}
RESOURCE = wiki.PREFIX + "Template:Box"
SITE = Site(routes=(Route(f"/{wiki.PREFIX}", wiki.PAGES, wiki.PREFIX),), views=wiki.VIEWS)


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    with platform_shell(tmp_path_factory.mktemp("platform"), SITE) as started:
        started.ok("storage", "namespaces", "create", wiki.PAGES)
        started.ok("storage", "namespaces", "create", wiki.SOURCES, "--bind", wiki.PREFIX)
        for title, text in PAGES.items():
            last = started.lines("propagation", "edit", wiki.SOURCES, title, text)[-1]
            assert last["state"] == "done"
        yield started


def edit(shell: Shell, text: str):
    return shell.lines("propagation", "edit", wiki.SOURCES, "Template:Box", text)[-1]


def test_an_edit_is_foreseen_and_followed_to_its_end(shell: Shell):
    foreseen = shell.json("propagation", "impact", RESOURCE)
    assert [(one["view"], one["dependents"]) for one in foreseen["views"]] == [("html", 3)]
    told = edit(shell, "first box")
    # Two pages use it, and it has a page of its own.
    assert (told["state"], told["changed"], told["failed"]) == ("done", 3, 0)
    for title, expected in (("Home", True), ("Away", True), ("Alone", False)):
        page = shell.ok("storage", "get", wiki.PAGES, wiki.PREFIX + title).stdout
        assert ("first box" in page) == expected
    again = edit(shell, "first box")
    assert (again["changed"], again["unchanged"]) == (0, 3)


def test_people_read_the_same_in_words(shell: Shell):
    shown = shell.ok("propagation", "edit", wiki.SOURCES, "Template:Box", "second box")
    assert "done: 3 of 3, 3 changed" in shown.stdout and "touch 3" in shown.stderr
    assert RESOURCE in shell.ok("propagation", "changes").stdout
    assert "up to date" in shell.ok("propagation", "explain", wiki.PREFIX + "Home", "html").stdout
    assert "html" in shell.ok("propagation", "impact", RESOURCE).stdout
    assert "edges" in shell.ok("propagation", "status").stdout
    assert "no dead letters" in shell.ok("propagation", "dead-letters", "list").stdout


def test_a_change_can_be_found_watched_and_explained(shell: Shell):
    change = edit(shell, "third box")["id"]
    newest = shell.lines("propagation", "changes", "--limit", "1")
    assert [one["id"] for one in newest] == [change]
    assert shell.lines("propagation", "watch", change)[-1]["state"] == "done"
    told = shell.json("propagation", "explain", wiki.PREFIX + "Home", "html")
    assert not told["pending"] and told["steps"][0]["root"] == change
    assert told["steps"][0]["path"] == [RESOURCE, wiki.PREFIX + "Home"]


def test_a_change_that_waits_is_paused_resumed_and_cancelled(shell: Shell):
    """A version that its source never shows keeps a change waiting for as long as one looks."""
    change = shell.json("propagation", "publish", wiki.PREFIX + "Alone", "--id", "waits")["root"]
    assert change == "waits"
    assert shell.json("propagation", "pause", change, "--reason", "a look")["state"] == "paused"
    assert shell.json("propagation", "resume", change)["state"] == "active"
    repeated = "0" * 31 + "1"
    shell.fails(
        failures.CONFLICT, "propagation", "publish", wiki.PREFIX + "Alone", "--id", "waits", "--version", repeated
    )
    assert shell.json("propagation", "cancel", change)["state"] == "cancelled"
    assert "cancelled" in shell.fails(failures.FAILED, "propagation", "watch", change).stderr
    shell.fails(failures.CONFLICT, "propagation", "pause", change)
    assert [one["id"] for one in shell.lines("propagation", "changes", "--state", "cancelled")] == [change]


def test_a_change_of_what_nothing_depends_on_is_done_at_once(shell: Shell):
    told = shell.lines("propagation", "publish", "catalogue/price/1", "--wait")[-1]
    assert (told["state"], told["total"]) == ("done", 0)


def test_dead_letters_are_chosen_on_purpose(shell: Shell):
    assert shell.lines("propagation", "dead-letters", "list", "--view", "html") == []
    shell.fails(failures.USAGE, "propagation", "dead-letters", "replay")
    shell.fails(failures.USAGE, "propagation", "dead-letters", "discard", "why", "--all", "--view", "html")
    assert shell.json("propagation", "dead-letters", "replay", "--all") == {"replayed": 0}
    assert shell.json("propagation", "dead-letters", "discard", "for the test", "--view", "html") == {"discarded": 0}


def test_views_are_checked_before_they_are_in_force(shell: Shell, tmp_path):
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(wiki.VIEWS)
    bad.write_text(wiki.VIEWS.replace("timeout", "time_out") + "  - name: Bad Name\n")
    assert shell.json("propagation", "views", "check", str(good))["views"] == ["html"]
    refused = shell.fails(failures.BAD_DATA, "propagation", "views", "check", str(bad), "--json")
    mistakes = [json.loads(line) for line in refused.stdout.splitlines()]
    assert mistakes and all(one["line"] and one["what"] for one in mistakes)
    shell.fails(failures.BAD_DATA, "propagation", "views", "put", str(bad))
    assert [one["name"] for one in shell.lines("propagation", "views", "list")] == ["html"]
    assert shell.json("propagation", "views", "put", str(good))["revision"] > 0
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe")
    shell.fails(failures.BAD_DATA, "propagation", "views", "check", str(tmp_path / "binary.yaml"))
    shell.fails(failures.FAILED, "propagation", "views", "check", str(tmp_path / "missing.yaml"))


def test_what_is_not_there_or_not_possible(shell: Shell):
    shell.fails(failures.NOT_FOUND, "propagation", "watch", "no-such-change")
    shell.fails(failures.NOT_FOUND, "propagation", "explain", RESOURCE, "no-such-view")
    shell.fails(failures.NOT_FOUND, "propagation", "edit", "no-such-namespace", "x", "y")
    shell.fails(failures.USAGE, "propagation", "publish", "x", "--version", "12")
    shell.fails(failures.USAGE, "propagation", "publish", "with\ncontrol")
    shell.fails(failures.USAGE, "propagation", "edit", wiki.SOURCES, "x")
    shell.ok("storage", "namespaces", "create", "unbound")
    assert "not bound" in shell.fails(failures.FAILED, "propagation", "edit", "unbound", "x", "y").stderr


def test_the_doctor_finds_a_platform_well_and_a_dead_service_ill(shell: Shell):
    found = shell.lines("doctor")
    assert {one["level"] for one in found} <= {"good", "warning"}
    assert {"python", "disk", "data", "clock", "services", "readers", "versions"} <= {one["check"] for one in found}
    platform = shell.platform
    assert platform is not None
    platform.kill("session")
    try:
        ill = [json.loads(line) for line in shell.fails(failures.FAILED, "doctor", "--json").stdout.splitlines()]
        bad = [one for one in ill if one["level"] == "bad"]
        assert [one["check"] for one in bad] == ["services"] and "session" in bad[0]["what"] and bad[0]["mend"]
    finally:
        platform.revive("session")
