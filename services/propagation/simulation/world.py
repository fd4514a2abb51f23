"""An engine over the store in memory, with a clock that stands still until it is told to move, and a site to render.

`World.crash` loses what was not durable and opens the engine again from what was. Executors are played step by step, so
that a test decides where each of them dies.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import cast

import numpy as np

from services.propagation.domain import edges
from services.propagation.domain.change import Cause, Change
from services.propagation.domain.completion import Completion, complete
from services.propagation.domain.edges import Declared, Mode
from services.propagation.domain.engine import Engine
from services.propagation.domain.failures import Failed
from services.propagation.domain.leases import Answer
from services.propagation.domain.leasing import Grant
from services.propagation.domain.progress import Progress, progress
from services.propagation.domain.publish import Accepted
from services.propagation.domain.records import RootRecord, find_change_id, read_root
from services.propagation.domain.shard import Settings
from services.propagation.domain.views import RetryPolicy, View
from services.propagation.simulation.log_disk import LogDisk
from services.propagation.simulation.site import Input, Place, Site
from services.propagation.store.interface import Store
from services.propagation.store.memory import MemoryStore
from services.propagation.store.memory_state import MemoryDisk

NONE = np.empty(0, np.uint32)
HTML = View("html", ("page/",), RetryPolicy(3, 1.0, 60.0), lease_s=30.0)


class ManualClock:
    """Wall and monotonic time that move only by `advance`."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.wall_ns = 1_700_000_000_000_000_000

    def time_ns(self) -> int:
        """Wall time."""
        return self.wall_ns

    def monotonic(self) -> float:
        """Seconds."""
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        """Nobody may wait on this clock."""
        raise AssertionError("the engine's domain does not sleep")

    def advance(self, seconds: float) -> None:
        """Moves both."""
        self.now_s += seconds
        self.wall_ns += int(seconds * 1e9)


@dataclass(slots=True)
class Rendered:
    """A lease as its executor sees it after rendering."""

    grant: Grant
    places: list[Place]
    bodies: list[bytes]
    sets: list[list[Input]] = field(default_factory=list)

    @property
    def ids(self) -> np.ndarray:
        """The items' numbers."""
        return self.grant.lease.ids


class World:
    """One engine, its disk, its clock, one site. `disk_of` is another kind of disk where a test wants one."""

    disk_of: type[MemoryDisk | LogDisk] = MemoryDisk

    def __init__(self, views: Sequence[View] = (HTML,), seed: int = 1, settings: Settings | None = None) -> None:
        self.clock = ManualClock()
        self.disk = self.disk_of()
        self.site = Site()
        self.views = list(views)
        self.settings = settings or Settings()
        self.rng = Random(seed)  # noqa: S311  a seeded simulation
        self.engine = self._open()

    def _open(self) -> Engine:
        store = self.disk.open() if isinstance(self.disk, LogDisk) else cast("Store", MemoryStore(self.disk))
        rng = Random(self.rng.random())  # noqa: S311  a seeded simulation
        return Engine(store, self.clock, rng, self.settings, self.views, 1)

    def crash(self, keep: int = 0) -> None:
        """kill -9 of the engine: what was not durable is lost, but for `keep` commits; then a restart."""
        self.disk.crash(keep)
        self.engine = self._open()

    def pages(self, count: int, *reads: str, view: str = "html", prefix: str = "page/") -> list[str]:
        """Makes pages that read the content of these resources, and declares it."""
        names = [f"{prefix}{at:04}" for at in range(count)]
        for name in names:
            self.site.reads[view, name] = [(read, "content") for read in reads]
        self.declare(view, names, [[(read, "content") for read in reads]] * count)
        return names

    def declare(
        self, view: str, names: Sequence[str], sets: Sequence[Sequence[Input]], mode: Mode = Mode.REPLACE
    ) -> None:
        """Declares the sets of dependents."""
        edges.declare(self.engine.shard, view, [name.encode() for name in names], declared_of(NONE, sets), mode)

    def edit(
        self,
        resource: str,
        *aspects: str,
        change_id: str = "",
        lane: str = "",
        visible: bool = True,
        version: int = 0,
    ) -> Accepted:
        """Edits a source and publishes the change."""
        named = aspects or ("content",)
        made = max(self.site.edit(resource, aspect, visible=visible) for aspect in named)
        change = Change(
            id=change_id or f"{resource}@{made}",
            resource=resource,
            aspects=named,
            version=(version or made).to_bytes(16, "big"),
            cause=Cause("edit", "tester"),
            lane=lane,
            time_ns=self.clock.time_ns(),
        )
        return self.engine.publish(change)[0]

    def lease(self, items: int = 1000, view: str = "html", executor: str = "x") -> list[Grant]:
        """Leases of one view."""
        return self.engine.lease(executor, {view: items})

    def render(self, grant: Grant) -> Rendered:
        """What an executor makes of a lease: reads the inputs as they are now."""
        view = self.engine.shard.views.name(grant.lease.view)
        names = grant.names.decode().split("\0")
        places = [(view, name) for name in names]
        rendered = Rendered(grant, places, [self.site.render(place) for place in places])
        rendered.sets = [list(self.site.reads.get(place, [])) for place in places]
        self.site.renders += [(place, grant.rendered_version) for place in places]
        return rendered

    def store(self, rendered: Rendered) -> None:
        """Puts what changed into the store."""
        for place, body, changed in zip(rendered.places, rendered.bodies, self._changed(rendered), strict=True):
            if changed:
                self.site.put(place, rendered.grant.rendered_version, body)

    def purge(self, rendered: Rendered) -> None:
        """Tells the caches."""
        for place, changed in zip(rendered.places, self._changed(rendered), strict=True):
            if changed:
                self.site.purge(place, rendered.grant.rendered_version)

    def complete(
        self,
        rendered: Rendered,
        *,
        failed: Sequence[Failed] = (),
        older: Sequence[int] = (),
        released: Sequence[int] = (),
        sets: bool = True,
        seconds: float = 0.0,
    ) -> Answer:
        """Reports all items as done but for those that are named otherwise."""
        others = {one.resource for one in failed} | set(older) | set(released)
        keep = [at for at, number in enumerate(rendered.ids.tolist()) if number not in others]
        done = rendered.ids[keep]
        hashes = np.frombuffer(b"".join(digest(rendered.bodies[at]) for at in keep), "V16")
        declared = declared_of(done, [rendered.sets[at] for at in keep]) if sets else None
        lease = rendered.grant.lease
        completion = Completion(
            lease_id=lease.id,
            fencing=lease.fencing,
            done=done,
            hashes=hashes,
            dependencies=declared,
            failures=tuple(failed),
            saw_older=np.array(sorted(older), np.uint32),
            released=np.array(sorted(released), np.uint32),
            renderer_s=seconds,
            fingerprint=hash((done.tobytes(), hashes.tobytes(), tuple(older), len(failed))),
        )
        return complete(self.engine.shard, completion)[0]

    def work(self, items: int = 1000, view: str = "html") -> int:
        """One executor's round: lease, render, store, purge, complete. Answers how many items."""
        count = 0
        for grant in self.lease(items, view):
            rendered = self.render(grant)
            self.store(rendered)
            self.purge(rendered)
            self.complete(rendered)
            count += len(rendered.ids)
        return count

    def drain(self, items: int = 1000, rounds: int = 10_000) -> int:
        """Works until nothing is pending or waiting; moves the clock where there is nothing to do but wait."""
        count = 0
        for _ in range(rounds):
            worked = sum(self.work(items, view.name) for view in self.views)
            count += worked
            if not worked:
                if not self.engine.shard.roots:
                    return count
                self.clock.advance(max(0.2, self.engine.tick()))
                self.engine.tick()
        raise AssertionError(f"not drained after {rounds} rounds")

    def number(self, name: str) -> int:
        """The resource's number."""
        return int(self.engine.shard.store.find_resources([name.encode()])[0])

    def record(self, change_id: str) -> RootRecord:
        """The change's record."""
        known = find_change_id(self.engine.shard.store, change_id)
        assert known is not None, change_id
        root = self.engine.shard.roots.get(known[0])
        record = root.record if root is not None else read_root(self.engine.shard.store, known[0])
        assert record is not None
        return record

    def progress(self, change_id: str) -> Progress:
        """How far the change is."""
        return progress(self.engine.shard, self.record(change_id))

    def renders_of(self, name: str, view: str = "html") -> int:
        """How often a page was rendered."""
        return sum(1 for place, _ in self.site.renders if place == (view, name))

    def _changed(self, rendered: Rendered) -> list[bool]:
        accepted = rendered.grant.lease.hashes
        return [accepted[at].tobytes() != digest(body) for at, body in enumerate(rendered.bodies)]


def digest(body: bytes) -> bytes:
    """The 16 bytes that stand for an output."""
    return hashlib.blake2b(body, digest_size=16).digest()


def declared_of(dependents: np.ndarray, sets: Sequence[Sequence[Input]]) -> Declared:
    """Sets in the engine's form."""
    places: dict[Input, int] = {}
    index = [places.setdefault(read, len(places)) for reads in sets for read in dict.fromkeys(reads)]
    return Declared(
        dependents,
        np.array([len(dict.fromkeys(reads)) for reads in sets], np.uint32),
        [name.encode() for name, _ in places],
        [aspect for _, aspect in places],
        np.array(index, np.uint32),
    )


def failures_of(numbers: Sequence[int], reason: str = "RENDER_FAILED", *, retryable: bool = True) -> list[Failed]:
    """A failure each."""
    return [Failed(number, reason, "made to fail", retryable) for number in numbers]
