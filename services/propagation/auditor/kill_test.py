"""Real processes: the auditor, the engine and the store are killed in the middle of a sweep over a store that lost
pages; the turn goes on where it was, and ends with everything equal and nothing rendered in vain.
"""

import json
import time

import pytest

from tools.cli.fixture import Shell, platform_shell
from tools.demo import wiki
from tools.platform.layout import Route
from tools.platform.site import Site

PAGES, LOST = 240, 40
SITE = Site(
    routes=(Route(f"/{wiki.PREFIX}", wiki.PAGES, wiki.PREFIX),),
    views=wiki.VIEWS,
    services={
        "auditor": {
            "sampling": {"per_s": 0, "random_per_s": 5},
            # Parts of 50 pages, three seconds each; the first turn, over nothing, is followed by the one that counts.
            "sweep": {"pages_per_s": 16, "pause": "1s", "cache_share": 0.5},
        }
    },
)
PATIENCE_S = 300


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    with platform_shell(tmp_path_factory.mktemp("platform"), SITE) as started:
        yield started


def until(holds):
    end = time.monotonic() + PATIENCE_S
    while not (found := holds()):
        assert time.monotonic() < end
        time.sleep(0.1)
    return found


def cursor(shell: Shell):
    """The turn under way as it is on disk; None between turns."""
    try:
        told = json.loads((shell.data / "auditor" / "cursor.json").read_text())
    except FileNotFoundError:
        return None
    return told if told["format"] else None


def pages(told):
    """How many outputs a turn has looked at; one over nothing, or over what lies in the store, counts none."""
    return told["counts"].get("pages", 0)


def report(shell: Shell):
    try:
        return json.loads((shell.data / "auditor" / "report.json").read_text())
    except FileNotFoundError:
        return None


def lines(shell: Shell, namespace: str) -> dict[str, str]:
    return {
        one["record"]: one["items"][0]["value"] if "items" in one else one.get("value", "")
        for one in shell.lines("storage", "scan", namespace, "--all")
    }


def test_a_sweep_survives_the_kills_of_all_whom_it_needs_and_its_own(shell: Shell):
    platform = shell.platform
    assert platform is not None
    platform.kill("auditor")
    shell.ok("storage", "namespaces", "create", wiki.PAGES)
    shell.ok("storage", "namespaces", "create", wiki.SOURCES, "--bind", wiki.PREFIX)
    for n in range(PAGES):
        shell.ok("storage", "put", wiki.SOURCES, f"P{n:03}", f"page {n}")
    until(lambda: len(lines(shell, wiki.PAGES)) == PAGES and not shell.json("propagation", "status")["pending"])
    right = lines(shell, wiki.PAGES)
    for n in range(0, PAGES, PAGES // LOST):
        shell.ok("storage", "delete", wiki.PAGES, f"{wiki.PREFIX}P{n:03}")
    before = (report(shell) or {"turn": 0})["turn"]

    platform.revive("auditor")
    # A turn that the first kill met over nothing may end first.
    turn = until(lambda: (told := cursor(shell)) and told["token"] and pages(told) and told)
    platform.kill("auditor")
    platform.revive("auditor")
    until(lambda: (told := cursor(shell)) and pages(told) > pages(turn))
    platform.kill("propagation")
    time.sleep(2)
    platform.revive("propagation")
    until(lambda: (told := cursor(shell)) and pages(told) > pages(turn) + 50)
    platform.kill("storage")
    time.sleep(2)
    platform.kill("auditor")  # while it waits for the store, so that its turn is not over before
    platform.revive("storage")
    platform.revive("auditor", wait=False)

    swept = until(lambda: (told := report(shell)) and told["turn"] > before and pages(told) and told)
    print(swept)
    assert swept["resumed"] == turn["resumed"] + 2 and pages(swept) == PAGES and not swept["problems"]
    until(lambda: not shell.json("propagation", "status")["pending"])
    until(lambda: lines(shell, wiki.PAGES) == right)
    # A turn that began while pages were rendered tells of them; the next one does not.
    again = until(lambda: (told := report(shell)) and told["counts"].get("equal") == PAGES and told)
    assert again["turn"] > swept["turn"] and not again["counts"].get("repaired")
    roots = [
        one for one in shell.lines("propagation", "changes", "--limit", "1000") if one["id"].startswith("auditor/")
    ]
    # Each lost page was rendered anew once: a part that was swept twice found them pending or right.
    assert sum(one["total"] for one in roots) == LOST == sum(one["changed"] for one in roots)
