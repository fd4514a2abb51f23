"""The window of remembrance: change ids, finished roots, renders and ticks before it are forgotten, a few at a time.

Dead letters that were discarded are remembered as long as a restart may meet one of the fan-outs before.

A change repeated after the window is taken for a new one; being no newer than what is known, it has no effect.
"""

from services.propagation.domain import finished
from services.propagation.domain.records import CHANGE_ID, FANOUT, GONE, ROOT, TALLY, RootRecord
from services.propagation.domain.sequence import decode, encode
from services.propagation.domain.shard import Shard, Step

_CHUNK = 500
_FORGOTTEN = ("meta", b"forgotten")


def forget(shard: Shard) -> int:
    """Forgets up to a chunk of what is too old; answers how much. The rest is for the next call."""
    oldest_ns = shard.clock.time_ns() - int(shard.settings.remember_s * 1e9)
    step: Step | None = None
    forgotten = 0
    last = 0
    for key, value in shard.store.records(ROOT, limit=_CHUNK + len(shard.roots)):
        record = RootRecord.unpack(key, value)
        if record.accepted_ns > oldest_ns:
            break
        if decode(key) in shard.roots:
            continue
        step = step or shard.step()
        step.commit.delete_record(ROOT, key)
        step.commit.delete_record(TALLY, key)
        step.commit.delete_records(FANOUT, key)
        if record.publish_unchanged:
            step.commit.delete_record(GONE, key)
        step.commit.delete_record(CHANGE_ID, record.change.id.encode())
        forgotten += 1
        last = record.sequence
    if step is not None:
        first = min(shard.roots, default=last)
        shard.sequence.forget_ticks(min(first, last), step.commit, _CHUNK)
        step.commit.put_record(*_FORGOTTEN, encode(last))
        finished.forget(shard.store, step.commit, last, _CHUNK)
    begun = step or shard.step()
    forgotten += shard.history.forget(begun.commit, oldest_ns)
    since = min((root.since for root in shard.roots.values()), default=shard.sequence.last + 1)
    forgotten += shard.holds.forget_discarded(begun.commit, since, _CHUNK)
    if forgotten:
        begun.write()
    return forgotten


def forgotten_up_to(shard: Shard) -> int:
    """The sequence of the newest change that was forgotten, 0 when none was."""
    kept = shard.store.get_record(*_FORGOTTEN)
    return decode(kept) if kept is not None else 0
