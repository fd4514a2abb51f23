"""What must hold after each step of the engine, of the store and of the caches. Cheap rules at each, dear ones at some.

* no number of the engine's clock is given twice; * nothing is lent twice validly;
* what is done never falls, within a life as it is, over lives as it was durable;
* an acknowledged change is known; * what is pending in memory is what the store says (`pending.py`);
* a root that is done is shown by all that depends on it, in the store and in each cache that got its purges;
* a stored version never falls, nor does what a reader sees through one cache.
"""

import json
from collections.abc import Callable, Sequence

import numpy as np
from pyroaring import BitMap

from services.propagation.domain.change import Change
from services.propagation.domain.completion import Completion
from services.propagation.domain.leases import Answer
from services.propagation.domain.leasing import Grant
from services.propagation.domain.publish import Accepted
from services.propagation.domain.records import State, find_change_id, read_root
from services.propagation.domain.shard import Shard
from services.propagation.simulation.seeded.caches import Cache
from services.propagation.simulation.seeded.pending import check_pending, knew
from services.propagation.simulation.seeded.site import Place, Site
from services.propagation.simulation.seeded.trace import Trace, Violation

DEAR_EVERY = 60


class Invariants:
    """The engine's watcher, and the store's and the readers'. `shard` gives the engine's state, None while it is down.

    `crash_soon` is asked for at each step of the engine: it may end this life behind it.
    """

    def __init__(
        self,
        site: Site,
        caches: Sequence[Cache],
        lost_purges: set[tuple[str, Place]],
        trace: Trace,
        shard: Callable[[], Shard | None],
        stepped: Callable[[], None],
    ) -> None:
        self._site = site
        self._caches = caches
        self._lost_purges = lost_purges
        self._trace = trace
        self._shard = shard
        self._stepped = stepped
        self.steps = 0
        self.dear_checks = 0
        self.roots_checked = 0
        self.acknowledged: dict[str, int] = {}
        self._lent: dict[tuple[int, int], int] = {}
        self._deadline: dict[int, float] = {}
        self._done: dict[int, int] = {}
        self._done_durable: dict[int, int] = {}
        self._unfinished: set[int] = set()
        self._newest_lease = 0
        self._given_up: dict[tuple[int, int], int] = {}
        self._number = 0
        self._number_durable = 0
        self._reported: list[Place] = []
        self._accepted: dict[Place, int] = {}
        self._stored: dict[Place, bytes] = {}
        self._seen: dict[tuple[str, Place], bytes] = {}

    # -- the engine ---------------------------------------------------------------------------------------------------

    def stepped(self, what: str) -> None:
        """After each step of the engine."""
        shard = self._shard()
        if shard is None:
            return
        self.steps += 1
        if shard.halted is None:
            self._check_progress(shard)
            self._check_finished(shard)
            if what == "start":
                self._check_acknowledged(shard)
            if self.steps % DEAR_EVERY == 0:
                self.dear_checks += 1
                check_pending(shard, self._accepted)
        self._stepped()

    def leased(self, executor: str, grants: Sequence[Grant]) -> None:
        """Nothing is lent that somebody else still holds."""
        shard = self._shard()
        if shard is None:
            return
        now_s = shard.now_s()
        for grant in grants:
            lease = grant.lease
            self._given(lease.sequence, f"lease {lease.id}")
            self._trace(executor, f"leases {lease.id}: {grant.names.decode().split(chr(0))} of {lease.view}")
            for item in lease.ids.tolist():
                held = self._lent.get((lease.view, item))
                if held is not None and self._deadline.get(held, 0.0) > now_s:
                    raise Violation(
                        "nothing is leased twice",
                        f"item {item} of view {lease.view}: lease {lease.id}, and still {held}",
                    )
                self._lent[lease.view, item] = lease.id
            self._deadline[lease.id] = lease.deadline_s
            self._newest_lease = lease.sequence

    def extended(self, lease_id: int) -> None:
        """The lease is held longer."""
        shard = self._shard()
        lease = shard.leases._by_id.get(lease_id) if shard is not None else None
        if lease is not None:
            self._deadline[lease_id] = lease.deadline_s

    def completing(self, completion: Completion) -> None:
        """A report arrives: which pages have other bytes than at the last accepted one."""
        shard = self._shard()
        lease = shard.leases._by_id.get(completion.lease_id) if shard is not None else None
        self._reported = []
        if shard is None or lease is None:
            return
        before = {item: accepted.tobytes() for item, accepted in zip(lease.ids.tolist(), lease.hashes, strict=True)}
        now = zip(completion.done.tolist(), completion.hashes, strict=True)
        items = [item for item, accepted in now if before.get(item) != accepted.tobytes()]
        names = shard.store.resource_names(np.array(items, np.uint32))
        self._reported = [(shard.views.name(lease.view), name.decode()) for name in names]

    def completed(self, completion: Completion, answer: Answer, *, repeated: bool) -> None:
        """It was accepted: from a holder whose lease was valid, each item by it alone."""
        named = [
            *completion.done.tolist(),
            *completion.saw_older.tolist(),
            *completion.released.tolist(),
            *(failed.resource for failed in completion.failures),
        ]
        self._trace(
            "engine",
            f"takes {'again ' if repeated else ''}{completion.lease_id}: {len(completion.done)} done, "
            f"{len(completion.failures)} failed, {len(completion.saw_older)} saw older",
        )
        if repeated:
            return
        self._accepted.update(dict.fromkeys(self._reported, self._newest_lease))
        for view, item in [key for key, lease in self._lent.items() if lease == completion.lease_id]:
            if item in named:
                del self._lent[view, item]
                named.remove(item)
        if named:
            raise Violation("one report an item", f"lease {completion.lease_id} was not held for {named}")

    def published(self, change: Change, accepted: Accepted) -> None:
        """A change was taken, not yet acknowledged."""
        self._trace("engine", f"takes change {change.id} as {accepted.sequence}, root {accepted.root!r}")
        if not accepted.repeated:
            self._given(accepted.sequence, change.id)
            self._number = accepted.sequence

    def _given(self, number: int, to: str) -> None:
        """A new number lies above all durable ones: what it orders would else be taken for older."""
        if number <= self._number_durable:
            raise Violation("numbers rise", f"{to} has {number}, and {self._number_durable} was given before")

    def acknowledge(self, change_id: str, sequence: int) -> None:
        """Its author was told so."""
        self.acknowledged[change_id] = sequence

    def give_up(self, view: int, item: int) -> None:
        """A dead letter is discarded: until it is rendered again nothing is promised of the page."""
        shard = self._shard()
        if shard is not None:
            self._given_up[view, item] = shard.sequence.last

    def synced(self) -> None:
        """What was counted is durable."""
        self._done_durable = dict(self._done)
        self._number_durable = self._number

    def lost_memory(self) -> None:
        """The engine derives its state anew: leases are void, what counted only in memory is gone."""
        self._lent.clear()
        self._deadline.clear()
        self._done = dict(self._done_durable)
        self._number = self._number_durable

    def _check_progress(self, shard: Shard) -> None:
        for sequence, root in shard.roots.items():
            done = root.done
            before = self._done.get(sequence, 0)
            if done < before:
                raise Violation("what is done never falls", f"root {root.id}: {before}, then {done}")
            if done > before:
                self._done[sequence] = done

    def _check_acknowledged(self, shard: Shard) -> None:
        for change_id, sequence in self.acknowledged.items():
            known = find_change_id(shard.store, change_id)
            if known is None or known[0] != sequence or read_root(shard.store, sequence) is None:
                raise Violation("no acknowledged change is lost", f"{change_id} at {sequence}: now {known}")

    def _check_finished(self, shard: Shard) -> None:
        over = self._unfinished - shard.roots.keys()
        self._unfinished = set(shard.roots)
        for sequence in over:
            record = read_root(shard.store, sequence)
            if record is None or record.state is not State.DONE or record.left:
                continue
            self._trace("engine", f"root {record.change.id} is done")
            self.roots_checked += 1
            for aspect, number in self._aspects(shard, record.inputs):
                wanted = self._wanted(record.change, aspect)
                for view, items in shard.store.dependents(number).items():
                    if not knew(shard, record, view):
                        continue
                    alive = items - shard.holds.dead(view) - self._taken_over(shard, number, view)
                    self._check_shown(shard, record.change, aspect, wanted, view, np.array(alive, np.uint32))
                own = shard.store.find_resources([record.change.resource.encode()]).astype(np.uint32)
                for view in shard.views.covering(record.change.resource):
                    if knew(shard, record, view) and int(own[0]) not in shard.holds.dead(view):
                        self._check_shown(shard, record.change, aspect, wanted, view, own)

    def _taken_over(self, shard: Shard, number: int, view: int) -> BitMap:
        """What another change of the input has yet to render: an edge that comes late is pending under the newest."""
        pending = BitMap()
        for root in shard.roots.values():
            if number in root.record.inputs:
                for group in root.of_view(view):
                    pending |= group.pending
        return pending

    def _aspects(self, shard: Shard, inputs: tuple[int, ...]) -> list[tuple[str, int]]:
        parts = shard.store.input_parts(np.array(inputs, np.uint32))
        return [(aspect, number) for number, (_, aspect) in zip(inputs, parts, strict=True)]

    def _wanted(self, change: Change, aspect: str) -> int:
        return self._site.shown.get((change.resource, aspect, int.from_bytes(change.version, "big")), 0)

    def _check_shown(
        self, shard: Shard, change: Change, aspect: str, wanted: int, view: int, items: np.ndarray
    ) -> None:
        rendered = shard.store.rendered_at(view, items)
        names = shard.store.resource_names(items)
        key = f"{change.resource}|{aspect}"
        for name, number, at in zip(names, items.tolist(), rendered.tolist(), strict=True):
            place = (shard.views.name(view), name.decode())
            page = self._site.pages.get(place)
            if at <= self._given_up.get((view, number), 0):
                continue
            if page is None:
                raise Violation("a done root is shown", f"{change.id} is done; {place} is rendered and not stored")
            if _shows(page.value, key, wanted) < wanted:
                raise Violation(
                    "a done root is shown", f"{change.id} is done; {place} shows {page.value!r}, not {key} {wanted}"
                )
            for cache in self._caches:
                held = cache.held(place)
                if held is None or (cache.name, place) in self._lost_purges:
                    continue
                if _shows(held.value, key, wanted) < wanted:
                    raise Violation(
                        "a done root is visible",
                        f"{change.id} is done; {cache.name} keeps {place} {held.value!r}, not {key} {wanted}",
                    )

    # -- store and caches ---------------------------------------------------------------------------------------------

    def stored(self) -> None:
        """A stored version never falls."""
        for place, page in self._site.pages.items():
            before = self._stored.get(place, b"")
            if page.version < before:
                raise Violation("no effect goes back", f"{place}: {before.hex()}, then {page.version.hex()}")
            self._stored[place] = page.version

    def seen(self, cache: str, place: Place) -> bytes:
        """The newest version that any reader has seen through the cache by now."""
        return self._seen.get((cache, place), b"")

    def read(self, cache: str, place: Place, version: bytes, before: bytes) -> None:
        """A reader sees a page through a cache; `before` is what was `seen` when it asked."""
        if version < before:
            raise Violation("no reader goes back", f"{place} through {cache}: {before.hex()}, then {version.hex()}")
        self._seen[cache, place] = max(version, self.seen(cache, place))


def _shows(page: bytes | None, key: str, otherwise: int) -> int:
    """What a page shows of an input; `otherwise` where it shows nothing of it, or is gone."""
    return int(json.loads(page).get(key, otherwise)) if page is not None else otherwise
