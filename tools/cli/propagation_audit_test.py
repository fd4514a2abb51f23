"""The auditor on a real platform: processes, store, gateway; what was lost behind the engine's back comes back."""

import json
import time

import pytest

from tools.cli import failures
from tools.cli.fixture import Shell, platform_shell
from tools.demo import wiki
from tools.platform.layout import Route
from tools.platform.site import Site

PAGES = 120
SITE = Site(
    routes=(Route(f"/{wiki.PREFIX}", wiki.PAGES, wiki.PREFIX),),
    views=wiki.VIEWS,
    services={
        "auditor": {
            "sampling": {"delays": ["500ms", "2s"], "per_s": 100, "random_per_s": 20},
            "sweep": {"pages_per_s": 100, "pause": "1h"},
        }
    },
)


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    with platform_shell(tmp_path_factory.mktemp("platform"), SITE) as started:
        started.ok("storage", "namespaces", "create", wiki.PAGES)
        started.ok("storage", "namespaces", "create", wiki.SOURCES, "--bind", wiki.PREFIX)
        for n in range(PAGES):
            started.ok("storage", "put", wiki.SOURCES, f"P{n}", f"page {n} of {{{{Box}}}}")
        until(lambda: started.json("propagation", "status")["pending"] == 0 and stored(started) == PAGES)
        yield started


def until(holds, patience_s=60):
    end = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.2)


def stored(shell: Shell) -> int:
    return len(shell.lines("storage", "scan", wiki.PAGES, "--all", "--keys-only"))


def audit(shell: Shell, *more: str):
    return shell.json("propagation", "audit", "--once", "--pages-per-s", "0", *more)


def differ(told):
    return {kind: count for kind, count in told["findings"].items() if count}


def test_a_clean_sweep_renders_nothing(shell: Shell):
    before = shell.lines("propagation", "changes", "--limit", "1000")
    told = audit(shell)
    assert differ(told) == {} and told["counts"]["equal"] == PAGES and "repaired" not in told["counts"]
    assert shell.lines("propagation", "changes", "--limit", "1000") == before
    assert told["counts"]["looked_at_in_caches"] == PAGES == told["counts"]["cache_fresh"]


def test_pages_deleted_behind_the_engines_back_come_back(shell: Shell):
    lost = [f"{wiki.PREFIX}P{n}" for n in range(10)]
    for record in lost:
        shell.ok("storage", "delete", wiki.PAGES, record)
    told = audit(shell)
    assert differ(told) == {"lost": 10} and told["counts"]["repaired"] == 10
    for record in lost:
        assert "page" in shell.ok("storage", "get", wiki.PAGES, record).stdout
    assert differ(audit(shell)) == {}


def test_pages_written_over_by_hand_are_made_again(shell: Shell):
    record = f"{wiki.PREFIX}P20"
    right = shell.ok("storage", "get", wiki.PAGES, record).stdout
    shell.ok("storage", "put", wiki.PAGES, record, "vandalised")
    told = audit(shell)
    assert differ(told) == {"overwritten": 1}
    assert shell.ok("storage", "get", wiki.PAGES, record).stdout == right
    assert differ(audit(shell)) == {}


def test_orphans_go_and_strangers_stay(shell: Shell):
    shell.ok("storage", "put", wiki.PAGES, f"{wiki.PREFIX}Nobody", "an orphan")
    shell.ok("storage", "put", wiki.PAGES, "robots.txt", "a stranger")
    told = audit(shell)
    assert differ(told) == {"orphan": 1} and told["counts"]["strangers"] == 1
    # A plain put lies above every render: it is put out of the way once the renderer has said that there is no page.
    assert differ(audit(shell)) == {"left": 1}
    shell.fails(failures.NOT_FOUND, "storage", "get", wiki.PAGES, f"{wiki.PREFIX}Nobody")
    assert shell.ok("storage", "get", wiki.PAGES, "robots.txt").stdout.strip() == "a stranger"
    assert differ(audit(shell)) == {}


def test_the_auditor_beside_the_services_reports(shell: Shell):
    until(lambda: shell.runs("propagation", "audit", "--json").exit_code == 0)
    until(lambda: (shell.json("propagation", "audit")["sweep"] or {}).get("turn"))
    until(lambda: shell.json("propagation", "audit")["freshness"])
    until(lambda: {r["delay"] for r in shell.json("propagation", "audit")["freshness"]["shares"]} >= {"0.5s", "2s"})
    told = shell.json("propagation", "audit")["freshness"]
    print(json.dumps(told))
    assert "share fresh" in shell.ok("propagation", "audit").stdout


def test_what_is_wrong_is_said(shell: Shell, tmp_path):
    shell.fails(failures.NOT_FOUND, "propagation", "audit", "--path", str(tmp_path))
    shell.fails(failures.USAGE, "propagation", "audit", "--once", "--cache", "edge")
    shell.fails(failures.USAGE, "propagation", "audit", "--once", "--cache", "edge=http://127.0.0.1:1/path")
    where = "--address=propagation=127.0.0.1:9"
    shell.fails(failures.UNAVAILABLE, "propagation", "audit", "--once", where, "--timeout", "2")
