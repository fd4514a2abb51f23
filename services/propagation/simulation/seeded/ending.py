"""What must be true when the storm is over and all has come to rest: freshness, sums, and nothing left behind."""

from collections.abc import Sequence

from services.propagation.domain.holds import DISCARDED, HELD
from services.propagation.domain.records import ACTIVE, CHANGE_ID, FANOUT, ROOT, TALLY, RootRecord, State, read_tally
from services.propagation.domain.settling import SETTLE
from services.propagation.domain.shard import Shard
from services.propagation.simulation.seeded.caches import Cache
from services.propagation.simulation.seeded.index import CALLED_VIEW, Index
from services.propagation.simulation.seeded.places import PLACES, oscillating
from services.propagation.simulation.seeded.site import Site
from services.propagation.simulation.seeded.trace import Violation


def check_fresh(site: Site) -> None:
    """Every page is stored, and shows what the documents say."""
    for place in PLACES:
        if oscillating(place):
            continue
        page = site.pages.get(place)
        truth = site.truth(place)
        shown = page.value if page is not None else None
        if shown != truth:
            raise Violation("everything is fresh", f"{place} shows {shown!r} and must show {truth!r}")


def check_caches(site: Site, caches: Sequence[Cache]) -> None:
    """No cache keeps anything but what is stored; of dead letters nothing is promised."""
    for cache in caches:
        for place, page in site.pages.items():
            held = cache.held(place)
            if held is not None and held.value != page.value and not oscillating(place):
                raise Violation(
                    "caches are fresh", f"{cache.name} keeps {place} {held.value!r}, stored is {page.value!r}"
                )


def check_called(site: Site, index: Index) -> None:
    """The index was told of each page that is stored, deleted ones too."""
    for place, page in site.pages.items():
        told = index.versions.get(place, b"")
        if place[0] == CALLED_VIEW and told != page.version:
            raise Violation("calls are made", f"{place} is at {page.version.hex()}, told was {told.hex()}")


def check_sums(shard: Shard) -> None:
    """Of each root: all that there was is done, failed, or left over by name."""
    for key, value in shard.store.records(ROOT):
        record = RootRecord.unpack(key, value)
        tally = read_tally(shard.store, record.sequence)
        if not record.state.finished:
            raise Violation("everything ends", f"{record.change.id} is {record.state.name}: {tally}")
        if tally.changed + tally.unchanged > tally.done:
            raise Violation("counts add up", f"{record.change.id}: {tally}")
        left = record.left if record.state is State.CANCELLED or record.left else 0
        if tally.total != tally.done + tally.failed + left:
            raise Violation("counts add up", f"{record.change.id} ({record.state.name}, {left} left): {tally}")
        if record.state is State.DONE and tally.failed:
            raise Violation("counts add up", f"{record.change.id} is DONE with failures: {tally}")


def check_nothing_left(shard: Shard) -> None:
    """Nothing of finished roots is kept, neither in memory nor as records."""
    kept = {
        "roots": len(shard.roots),
        "newest": len(shard.newest),
        "roots by input": len(shard._of_inputs),
        "roots in lanes": sum(len(lane) for lane in shard.scheduler.lanes.values()),
        "leases": len(shard.leases._by_id),
        "lent": shard.leases.count,
        "leases by view": sum(map(len, shard.leases._by_view.values())),
        "deadlines": len(shard.leases._deadlines),
        "waiting": shard.holds.waiting_count,
        "slots": len(shard.holds._slots),
        "attempted": sum(map(len, shard.holds._attempted.values())),
        "second passes": len(shard.settling._due),
        "suspects": sum(len(one) for levels in shard.suspects._by_view.values() for one in levels.values()),
        "active": _records(shard, ACTIVE),
        "fan-outs": _records(shard, FANOUT),
        "held": _records(shard, HELD),
        "discarded": _records(shard, DISCARDED),
        "settle": _records(shard, SETTLE),
    }
    left = {name: count for name, count in kept.items() if count}
    if left:
        raise Violation("nothing is left behind", f"{left}")


def check_forgotten(shard: Shard) -> None:
    """After the window of remembrance nothing of the roots is kept at all."""
    left = {kind: _records(shard, kind) for kind in (ROOT, TALLY, CHANGE_ID, FANOUT) if _records(shard, kind)}
    if left:
        raise Violation("nothing is left behind", f"after the window of remembrance: {left}")


def _records(shard: Shard, kind: str) -> int:
    return sum(1 for _ in shard.store.records(kind))
