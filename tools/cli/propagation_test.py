"""The commands of propagation, against a real platform that renders a small wiki."""

import json

import pytest

from tools.cli import failures, propagation
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


def test_a_publisher_who_waits_is_told_that_the_source_is_older(shell: Shell, monkeypatch):
    monkeypatch.setattr(propagation, "PATIENCE_S", 0.5)
    waits = shell.fails(failures.FAILED, "propagation", "publish", wiki.PREFIX + "Alone", "--id", "ahead", "--wait")
    assert "held back" in waits.stderr and "propagation edit" in waits.stderr
    told = shell.fails(failures.FAILED, "propagation", "publish", wiki.PREFIX + "Alone", "--wait", "--json")
    assert json.loads(told.stderr.splitlines()[-1])["reason"] == "HELD_BACK"
    active = shell.lines("propagation", "changes", "--state", "active")
    assert "ahead" in {one["id"] for one in active}
    why = shell.json("propagation", "explain", wiki.PREFIX + "Alone", "html")
    assert any(step["decision"] == "pending" and "held back" in step["note"] for step in why["steps"])
    assert shell.json("propagation", "reprioritize", "ahead", "--weight", "7")["weight"] == 7
    shell.fails(failures.USAGE, "propagation", "reprioritize", "ahead")
    for one in active:
        shell.ok("propagation", "cancel", one["id"])


def test_pages_are_rendered_again_by_hand_and_listed(shell: Shell, tmp_path):
    home, away = wiki.PREFIX + "Home", wiki.PREFIX + "Away"
    told = shell.lines("propagation", "rerender", "html", home, away, "--id", "r1", "--wait")[-1]
    assert (told["state"], told["total"], told["unchanged"]) == ("done", 2, 2)
    assert "html again" in shell.ok("propagation", "changes", "--limit", "1").stdout
    again = shell.json("propagation", "rerender", "html", home, away, "--id", "r1")
    assert (again["root"], again["pages"]) == ("r1", 2)
    before = {one["resource"]: one["version"] for one in shell.lines("propagation", "outputs", "html")}
    told = shell.lines("propagation", "rerender", "html", "--all", "--publish-unchanged", "--wait")[-1]
    assert told["changed"] == told["total"] == len(before)
    listed = shell.lines("propagation", "outputs", "html", "--state", "fresh", "--prefix", home)
    assert [one["resource"] for one in listed] == [home] and listed[0]["version"] > before[home]
    assert "fresh" in shell.ok("propagation", "outputs", "html").stdout
    assert shell.lines("propagation", "outputs", "html", "--state", "dead-letter") == []
    names = tmp_path / "names"
    names.write_text(f"{home}\nelsewhere/x\n")
    told = shell.json("propagation", "rerender", "html", "--file", str(names), "--reason", "a look")
    assert (told["pages"], told["unknown"]) == (1, ["elsewhere/x"])
    shell.ok("propagation", "watch", told["root"])
    shell.fails(failures.NOT_FOUND, "propagation", "rerender", "html", "elsewhere/x")
    shell.fails(failures.NOT_FOUND, "propagation", "rerender", "no-such-view", "--all")
    shell.fails(failures.CONFLICT, "propagation", "rerender", "html", home, "--id", "r1")
    for wrong in (["html"], ["html", home, "--all"]):
        shell.fails(failures.USAGE, "propagation", "rerender", *wrong)
    names.write_bytes(b"\xff")
    shell.fails(failures.BAD_DATA, "propagation", "rerender", "html", "--file", str(names))


def test_what_renders_cost_and_who_caused_it(shell: Shell):
    found = shell.lines("propagation", "costs")
    assert found and sum(one["rendered"] for one in found) > 0
    assert [one["renderer_seconds"] for one in found] == sorted(
        (one["renderer_seconds"] for one in found), reverse=True
    )
    assert "renderer seconds" in shell.ok("propagation", "costs").stdout


def test_all_changes_and_outputs_are_followed_and_resumed(shell: Shell):
    edit(shell, "fourth box")
    changes = shell.lines("propagation", "watch", "--all", "--from-beginning", "--limit", "4")
    assert [one["resource"] for one in changes][:3] == [wiki.PREFIX + title for title in PAGES]
    assert not any(one["output_hash"] for one in changes)
    command = ["propagation", "watch", "--outputs", "--from-beginning", "--limit"]
    told: list = []
    while not told or not told[-1]["resume_token"]:  # the last event of an answer carries the token
        told = shell.lines(*command, str(len(told) + 1))
    assert {one["resource"] for one in told if one["output_hash"]} == {
        f"view/html/{wiki.PREFIX}{title}" for title in (*PAGES, "Template:Box")
    }
    assert "view/html/" in shell.ok(*command, str(len(told))).stdout
    change = edit(shell, "fifth box")["id"]
    resumed = ["propagation", "watch", "--outputs", "--resume", told[-1]["resume_token"], "--limit", "4"]
    more = shell.lines(*resumed)
    assert [bool(one["output_hash"]) for one in more] == [False, True, True, True]
    assert more[0]["id"] == change and all(one["cause"]["chain"] == [change] for one in more[1:])
    shell.fails(failures.USAGE, "propagation", "watch")
    shell.fails(failures.USAGE, "propagation", "watch", "some-change", "--all")
    shell.fails(failures.USAGE, "propagation", "watch", "some-change", "--limit", "3")
    shell.fails(failures.USAGE, "propagation", "watch", "--all", "--resume", "nonsense")


def test_a_purge_by_hand_says_what_each_cache_answered(shell: Shell):
    shell.fails(failures.USAGE, "propagation", "purge")
    shell.fails(failures.USAGE, "propagation", "purge", "--url", "http://x/", "--tag", "t")
    shell.fails(failures.USAGE, "propagation", "purge", "--tag", "t", "--min-version", "12")
    answers = shell.lines("propagation", "purge", "--resource", wiki.PREFIX + "Home")
    assert all(one["state"] == "purged" for one in answers)


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
    assert len(mistakes) > 2 and all(one["line"] and one["what"] for one in mistakes)
    alone = shell.fails(failures.BAD_DATA, "propagation", "views", "check", str(bad), "--json", "--offline")
    assert alone.stdout == refused.stdout
    assert shell.json("propagation", "views", "check", str(good), "--offline")["views"] == ["html"]
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
