"""An item on its way from one store to another, and what becomes of it where it arrives.

It keeps its version, so that writing it is the same write again: done twice, or over something newer, nothing happens.
"""

from collections.abc import Sequence
from typing import NamedTuple

from services.storage.domain.decide import Decision, RecordView, decide, visible
from services.storage.domain.model import Command, Condition, ConditionKind, Delete, Mode, Put, Selection, WriteToken


class Copied(NamedTuple):
    """An item as it is: ``record_version`` is the version of its record, ``ordered`` the kind of its own (given by
    ``older_than``), ``size`` that of its value.

    ``gone``: it was deleted by a write of ``version``; of the put only the key counts.

    When ``put.chunked``: on the way out of a store the value is empty and follows in pieces, ``crc32c`` is that of all
    of them; on the way in the value is the manifest of what was uploaded.
    """

    record: bytes
    record_version: bytes
    put: Put
    version: bytes
    ordered: bool
    write_us: int
    size: int
    crc32c: int = 0
    gone: bool = False


def merge(mode: Mode, view: RecordView, items: Sequence[Copied], now_us: int, tomb_due_us: int) -> Decision:
    """What writing ``items``, all of one record, does to ``view``: the decision's puts are those that are written.

    LWW: each is judged like the write that made it. CAS: each is written over nothing or something older. What is there
    with the same version already, or has expired, is left out.
    """
    taken = [item for item in items if _wanted(mode, view, item, now_us, tomb_due_us)]
    versions = [item.version for item in taken]
    if mode is Mode.CAS and taken:
        versions = [taken[0].record_version, *versions, *([view.version] if view.alive(now_us) else [])]
    decision = Decision(max(versions, default=b""))
    decision.puts = [(item.put, item.version, item.ordered) for item in taken if not item.gone]
    for item in taken:
        if item.gone:
            _bury(mode, view, item, decision, now_us, tomb_due_us)
    decision.write_us = {item.put.key: item.write_us for item in taken if not item.gone}
    return decision


def _bury(mode: Mode, view: RecordView, item: Copied, decision: Decision, now_us: int, tomb_due_us: int) -> None:
    """Adds to ``decision`` what the delete of one item does."""
    if mode is Mode.CAS:
        known = view.item(item.put.key)
        assert known is not None  # it is wanted
        decision.removed[item.put.key] = known
        return
    command = Command(item.record, _token(item.version), (), (Delete(Selection((item.put.key,))),), (0,), b"")
    deleted = decide(mode, view, command, now_us, b"", tomb_due_us)
    decision.removed.update(deleted.removed)
    decision.tombs.update(deleted.tombs)
    decision.range_tombs += deleted.range_tombs
    decision.deleted_items += deleted.deleted_items


def _token(version: bytes) -> WriteToken:
    """A token whose writes have this version."""
    return WriteToken(int.from_bytes(version[:8], "big"), version[8:] + bytes(8))


def _wanted(mode: Mode, view: RecordView, item: Copied, now_us: int, tomb_due_us: int) -> bool:
    expire_us = item.put.expire_us
    if expire_us and expire_us <= now_us:
        return False
    known = view.item(item.put.key)
    if item.gone:
        return known is not None and not known.dead and (known.ordered or known.version <= item.version)
    if known is not None and not known.dead and known.version == item.version:
        return False
    if mode is Mode.CAS:
        return not visible(known, now_us) or (known is not None and known.version < item.version)
    condition = Condition(ConditionKind.OLDER_THAN, item.version) if item.ordered else None
    put = Put(item.put.key, b"", condition=condition)
    command = Command(item.record, _token(item.version), (put,), (), (0,), b"")
    return bool(decide(mode, view, command, now_us, b"", tomb_due_us).puts)
