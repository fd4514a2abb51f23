"""Propagation: the graph, roots, dead letters, and roots that were paused; and the pages that readers get of it."""

from tests.checks.check import Check, Site
from tests.checks.renderer import PREFIX
from wellspring.propagation.v1 import propagation_pb2
from wellspring_client.sync import Propagation

VIEW, SOURCES = "checked", "check-sources"
VIEWS = f"""
views:
  - name: {VIEW}
    resource_prefixes: ["{PREFIX}page/"]
    source_namespace: {SOURCES}
    source_prefix: "{PREFIX}"
    render: {{entry_point: {{function: "tests.checks.renderer:render"}}, timeout: 10s}}
    store: {{namespace: {VIEW}, record: "{{resource}}"}}
    purge: {{urls: ["/{PREFIX}page/{{path}}"]}}
    retry: {{max_attempts: 5, initial_backoff: 1h, max_backoff: 1h}}
    lease_time: 2s
"""
_Root = propagation_pb2.Root
_DONE = (_Root.STATE_DONE, _Root.STATE_DONE_WITH_FAILURES)


def _version(number: int) -> bytes:
    return number.to_bytes(16, "big")


def _finished(site: Site, change_id: str) -> propagation_pb2.Root:
    def look() -> propagation_pb2.Root | None:
        root = site.client.propagation.get_change(change_id)
        return root if root.state in _DONE else None

    return site.until(look)


class Graph(Check):
    """Sets of dependencies are as they were last declared, and the counts with them."""

    def initialise(self, site: Site) -> None:
        self.sets = {f"graph/{n:03}": {f"input/{n % 7}", "input/all"} for n in range(50)}
        site.client.propagation.declare(VIEW, {name: sorted(sets) for name, sets in self.sets.items()})

    def manipulate(self, site: Site, turn: int) -> None:
        changed = {f"graph/{turn:03}": ["input/all", f"input/turn-{turn}"], f"graph/{turn + 10:03}": []}
        site.client.propagation.declare(VIEW, changed)
        self.sets |= {name: set(sets) for name, sets in changed.items()}

    def validate(self, site: Site) -> None:
        engine = site.client.propagation
        for name, inputs in self.sets.items():
            assert {found for found, _ in engine.dependencies(name, VIEW)} == inputs
        for wanted in {one for inputs in self.sets.values() for one in inputs}:
            dependents = {name for name, inputs in self.sets.items() if wanted in inputs}
            assert {name for _, name in engine.dependents(wanted)} == dependents
            assert engine.count_dependents(wanted).total == len(dependents)


class Roots(Check):
    """A change is known by its id, with all that it reached; the same change again is no other."""

    def initialise(self, site: Site) -> None:
        self.ids: list[str] = []
        self._publish(site.client.propagation, 0)

    def manipulate(self, site: Site, turn: int) -> None:
        self._publish(site.client.propagation, turn)

    def validate(self, site: Site) -> None:
        for number, change_id in enumerate(self.ids):
            root = _finished(site, change_id)
            assert root.change.resource == f"nobody/{number}" and root.progress.total == 0
            again = site.client.propagation.change(f"nobody/{number}", _version(number + 1), id=change_id)
            assert (again.repeated_id, again.root) == (True, change_id)

    def _publish(self, engine: Propagation, turn: int) -> None:
        change_id = f"check-root-{turn}"
        engine.change(f"nobody/{turn}", _version(turn + 1), id=change_id)
        self.ids.append(change_id)


class DeadLetters(Check):
    """What cannot be rendered is kept, with its reason, until somebody discards it."""

    def initialise(self, site: Site) -> None:
        self.expected = set[str]()
        self._break(site, 0)

    def manipulate(self, site: Site, turn: int) -> None:
        self._break(site, turn)
        if turn == 2:
            site.client.propagation.admin.discard_dead_letters("checked", resource_prefix=f"{PREFIX}page/broken-0")
            self.expected.discard(f"{PREFIX}page/broken-0")

    def validate(self, site: Site) -> None:
        letters = list(site.client.propagation.admin.dead_letters(resource_prefix=f"{PREFIX}page/broken"))
        assert {letter.resource for letter in letters} == self.expected
        assert all("BROKEN_PAGE" in f"{letter.reason} {letter.detail}" for letter in letters), letters

    def _break(self, site: Site, turn: int) -> None:
        name = f"{PREFIX}page/broken-{turn}"
        site.client.propagation.declare(VIEW, {name: [f"input/broken-{turn}"]})
        root = site.client.propagation.change(f"input/broken-{turn}", _version(turn + 1)).root
        assert _finished(site, root).progress.failed == 1
        self.expected.add(name)


class PausedRoots(Check):
    """A root that is paused waits, and one that was resumed does not."""

    def initialise(self, site: Site) -> None:
        engine = site.client.propagation
        engine.declare(VIEW, {f"{PREFIX}page/slow-{n}": [f"input/slow-{n}"] for n in range(2)})
        self.roots = [engine.change(f"input/slow-{n}", _version(1)).root for n in range(2)]
        for root in self.roots:
            assert engine.pause(root, reason="checked").state == _Root.STATE_PAUSED

    def manipulate(self, site: Site, turn: int) -> None:
        if turn == 1:
            assert site.client.propagation.resume(self.roots[1]).state == _Root.STATE_ACTIVE

    def validate(self, site: Site) -> None:
        states = [site.client.propagation.get_change(root).state for root in self.roots]
        assert states == [_Root.STATE_PAUSED, _Root.STATE_ACTIVE]


class ServedPages(Check):
    """A stored edit is shown to readers, through the gateway's cache, with what else it changes."""

    def initialise(self, site: Site) -> None:
        site.client.storage.create_namespace(VIEW)
        site.client.storage.create_namespace(SOURCES, resource_prefix=PREFIX)
        sources = site.client.storage.namespace(SOURCES)
        sources.put("part", b"p0")
        for number in range(3):
            sources.put(f"page/{number}", f"t0 {PREFIX}part".encode())
        self.expected = dict.fromkeys(range(3), b"t0 p0")
        self._await(site)

    def manipulate(self, site: Site, turn: int) -> None:
        sources = site.client.storage.namespace(SOURCES)
        sources.put("part", f"p{turn}".encode())
        sources.put("page/0", f"t{turn} {PREFIX}part".encode())
        self.expected = {0: f"t{turn} p{turn}".encode(), 1: f"t0 p{turn}".encode(), 2: f"t0 p{turn}".encode()}

    def validate(self, site: Site) -> None:
        self._await(site)
        for number in self.expected:
            status, headers, _ = site.page(f"/{PREFIX}page/{number}")
            assert status == 200 and len(headers["X-Wellspring-Version"]) == 32 and headers["ETag"]
        assert site.page(f"/{PREFIX}page/none")[0] == 404

    def _await(self, site: Site) -> None:
        site.until(lambda: all(site.page(f"/{PREFIX}page/{n}")[2] == body for n, body in self.expected.items()))


CHECKS = (Graph, Roots, DeadLetters, PausedRoots, ServedPages)
