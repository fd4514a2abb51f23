"""What a `bazel test` came to, out of its build event file: who was skipped, who failed, and the totals.

Every test target counts: one that could not be built, timed out or crashed without a result counts as
one failure under its own name; one that was never run is named with the reason.
"""

import json
import re
import urllib.parse
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Json = Mapping[str, Any]
PASSED = ("PASSED", "FLAKY")
ENDED_BEFORE = ("INCOMPLETE", "NO_BUILD", "USER_INTERRUPTED")


@dataclass
class Totals:
    """Counts of test cases, and the lines that name those not run and those that failed."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    not_run: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def skip(self, name: str, reason: str) -> None:
        self.skipped += 1
        self.not_run.append(f"SKIPPED {name}: {one_line(reason) or 'no reason given'}")

    def fail(self, name: str, reason: str = "") -> None:
        self.failed += 1
        self.failures.append(f"FAILED {name}" + (f": {one_line(reason)}" if reason else ""))

    def lines(self) -> list[str]:
        """The report; its last line is `N passed, N failed[, N skipped]`."""
        last = f"{self.passed} passed, {self.failed} failed"
        if self.skipped:
            last += f", {self.skipped} skipped"
        return [*sorted(self.not_run), *sorted(self.failures), last]


def one_line(text: str, limit: int = 300) -> str:
    """`text` on one line without colours (which junit files hold as `#x1B[0m`), cut at `limit` characters."""
    text = " ".join(re.sub(r"(#x1B|\x1b)\[[0-9;]*[A-Za-z]", "", text).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def read_events(path: Path) -> list[Json]:
    """The events of a build event file; a last line cut short by a killed Bazel is left out."""
    events: list[Json] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            break
        if isinstance(event, dict):
            events.append(event)
    return events


def junit_file(result: Json) -> Path | None:
    """The local junit file of a testResult; None when there is none to read."""
    for out in result.get("testActionOutput", []):
        uri = urllib.parse.urlparse(out.get("uri", ""))
        if out.get("name") == "test.xml" and uri.scheme == "file":
            path = Path(urllib.parse.unquote(uri.path))
            if path.is_file():
                return path
    return None


def count_junit(root: ET.Element, label: str, totals: Totals) -> None:
    """Adds the test cases below `root` to `totals`."""
    for case in root.iter("testcase"):
        name = "::".join(filter(None, (case.get("classname"), case.get("name"))))
        bad = case.find("failure") if case.find("failure") is not None else case.find("error")
        skipped = case.find("skipped")
        if bad is not None:
            totals.fail(f"{label} {name}", bad.get("message") or "")
        elif skipped is not None:
            totals.skip(f"{label} {name}", skipped.get("message") or skipped.text or "")
        else:
            totals.passed += 1


def count_result(label: str, run: str, result: Json, totals: Totals) -> None:
    """Adds one run (shard) of a test target; `run` tells it from its other runs."""
    status = result.get("status", "NO_STATUS")
    xml, root = junit_file(result), None
    if xml is not None:
        try:
            root = ET.parse(xml).getroot()
        except ET.ParseError:
            root = None  # cut short: the test was killed while it wrote
    before = totals.failed
    if root is not None and status != "TIMEOUT":
        count_junit(root, label, totals)
    elif status in PASSED:
        totals.passed += 1  # its result lies where it cannot be read from here: the target counts as one
    if status not in PASSED and totals.failed == before:
        details = result.get("statusDetails") or status.lower().replace("_", " ")
        totals.fail(f"{label}{run}", f"{details} (no failing test case in its report)")


def last_attempts(events: Iterable[Json]) -> dict[tuple[str, int, int], Json]:
    """The result of the last attempt of each (label, run, shard)."""
    last: dict[tuple[str, int, int], tuple[int, Json]] = {}
    for event in events:
        identity = event.get("id", {}).get("testResult")
        if identity and "testResult" in event:
            key = (identity["label"], identity.get("run", 1), identity.get("shard", 0))
            attempt = identity.get("attempt", 1)
            if key not in last or attempt >= last[key][0]:
                last[key] = (attempt, event["testResult"])
    return {key: result for key, (_, result) in last.items()}


def completed_message(event: Json) -> str | None:
    """Why a target was not built; None when it was."""
    completed = event.get("completed")
    if completed is None or completed.get("success"):
        return None
    return str(completed.get("failureDetail", {}).get("message", ""))


def count_tests_without_result(events: Iterable[Json], seen: set[str], totals: Totals) -> None:
    """Names the test targets that Bazel announced and that have no result."""
    tests: dict[str, None] = {}
    unbuilt: dict[str, str] = {}
    for event in events:
        for kind in ("targetConfigured", "targetCompleted"):
            label = event.get("id", {}).get(kind, {}).get("label")
            if label is None or label in seen:
                continue
            if event.get("configured", {}).get("testSize"):
                tests[label] = None
            message = completed_message(event)
            if message is not None:
                unbuilt[label] = message
            aborted = event.get("aborted")
            if aborted is None:
                continue
            reason, description = aborted.get("reason", ""), aborted.get("description", "")
            if reason == "SKIPPED":
                totals.skip(label, description or "not compatible with this platform")
            elif reason in ENDED_BEFORE:
                totals.skip(label, f"not run, the build ended before ({description or reason.lower()})")
            else:
                totals.fail(label, description or reason.lower().replace("_", " "))
            seen.add(label)
    for label in tests:
        if label in seen:
            continue
        if label in unbuilt:
            totals.fail(label, unbuilt[label] or "could not be built (see above)")
        else:
            totals.skip(label, "not run, the build ended before")


def count_broken_patterns(events: Iterable[Json], totals: Totals) -> None:
    """Names what could not even be loaded: a pattern on the command line, a file that a target wants."""
    for event in events:
        if "aborted" not in event or event["aborted"].get("reason") in ENDED_BEFORE:
            continue
        for kind in ("pattern", "unconfiguredLabel", "configuredLabel"):
            if identity := event["id"].get(kind):
                name = identity.get("label") or " ".join(identity.get("pattern", []))
                totals.fail(name, event["aborted"].get("description") or "could not be loaded (see above)")


def summarise(path: Path, exit_code: int) -> Totals:
    """The totals of the build event file `path` (which may be missing) of a Bazel that ended with `exit_code`.

    A Bazel that failed without any failure to name counts as one failure itself.
    """
    totals = Totals()
    events = read_events(path) if path.exists() else []
    results = last_attempts(events)
    several = {label for label, run, shard in results if run > 1 or shard > 1}
    for (label, run, shard), result in sorted(results.items()):
        name = f" (run {run}, shard {shard})" if label in several else ""
        count_result(label, name, result, totals)
    count_tests_without_result(events, {label for label, _, _ in results}, totals)
    if exit_code and not totals.failed:
        count_broken_patterns(events, totals)
    if exit_code and not totals.failed:
        totals.fail("bazel", f"ended with exit code {exit_code} (see above)")
    return totals
