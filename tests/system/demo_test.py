"""The main job as a stranger runs it: `wellspring demo`, to its end, on the real pages."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from tools.demo import checker, sample, wiki

# 206 pages are rendered three times: about half a minute on two quiet cores.
PATIENCE_S = 600
KEYS = ["pages", "edges", "dependents", "rendered", "unchanged", "purged", "stale", "lost", "seconds"]


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "tools.cli.main", "demo", *words]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path if path)}


def test_one_edit_reaches_every_dependent_and_nothing_else():
    run = subprocess.run(
        command("--once", "--json"), env=environment(), capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout.splitlines()[-1])
    assert list(told) == KEYS
    census = checker.census(checker.read_export(sample.find()))
    assert (told["pages"], told["stale"], told["lost"]) == (len(census.titles), 0, 0)
    assert told["dependents"] == len(census.dependents("Cite web")) == 87
    # The template has a page of its own, which is rendered with the others but was in nobody's cache.
    assert told["rendered"] == told["unchanged"] == told["dependents"] + 1
    assert told["purged"] >= told["dependents"]
    assert told["edges"] >= sum(len(users) for users in census.users.values())


def test_it_stays_up_for_a_look_around_and_ends_by_ctrl_c(tmp_path):
    """With a directory of one's own; the edited page is served while it stays; nothing outlives it."""
    data, said = tmp_path / "data", tmp_path / "said"
    export = tmp_path / "small.xml"
    pages = "".join(
        f"<page><title>P{n}</title><ns>0</ns><id>{n}</id><revision><id>{n}</id><text>{{{{Box|title=t}}}} {n}</text>"
        "</revision></page>"
        for n in range(1, 6)
    )
    export.write_text(f'<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/">{pages}</mediawiki>')
    with said.open("wb") as output:
        words = ("--data", str(data), "--dump", str(export), "--json")
        demo = subprocess.Popen(command(*words), env=environment(), stdout=output, stderr=subprocess.STDOUT)
    try:
        end = time.monotonic() + PATIENCE_S
        while '"pages"' not in said.read_text():
            assert demo.poll() is None and time.monotonic() < end, said.read_text()
            time.sleep(0.1)
        address = json.loads((data / "platform.json").read_text())["ports"]["http"]
        with urllib.request.urlopen(f"http://127.0.0.1:{address}{wiki.path('P3')}", timeout=30) as answer:
            assert b"wellspring-demo-" in answer.read()
        pids = [json.loads(file.read_text())["pid"] for file in data.glob("logs/*/ready.json")]
        demo.send_signal(signal.SIGINT)
        assert demo.wait(PATIENCE_S) == 0, said.read_text()
        assert len(pids) == 6 and not any(Path(f"/proc/{pid}").exists() for pid in pids)
    finally:
        if demo.poll() is None:
            demo.kill()
            demo.wait()


def test_a_directory_with_something_in_it_is_not_fresh(tmp_path):
    (tmp_path / "letter").write_text("dear")
    refused = subprocess.run(
        command("--once", "--data", str(tmp_path)), env=environment(), capture_output=True, text=True, timeout=60
    )
    assert refused.returncode == 1 and "fresh directory" in refused.stderr and "Traceback" not in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["letter"]
