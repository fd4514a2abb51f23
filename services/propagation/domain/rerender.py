"""Renders without a change: pages made pending under a root of their own, by name or all that a view has rendered.

The root is like any other: it is listed, paused, cancelled and survives a restart. One that publishes what is unchanged
lends the items asked for as if they had never been accepted (leasing.py), so that they are stored and purged once more,
and what depends on them is rendered.
"""

import hashlib
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from libs.errors.errors import InvalidArgument
from services.propagation.domain import reopening
from services.propagation.domain.change import Cause, Change
from services.propagation.domain.errors import ChangeIdReused
from services.propagation.domain.fanout import want, want_all
from services.propagation.domain.gone import Gone
from services.propagation.domain.names import WORD_RULE, check_change_id, is_word
from services.propagation.domain.publish import check_room
from services.propagation.domain.records import RootRecord, State, Tally, find_change_id, put_id, read_root
from services.propagation.domain.roots import Root
from services.propagation.domain.shard import Shard, Step
from services.propagation.store.numbers import to_set

MAX_NAMES = 100_000
_MOST_TOLD = 100
KIND = "operator"


@dataclass(frozen=True, slots=True)
class Rerender:
    """What is asked for; no `names` means all that the view has rendered. `gone_versions`, of each name or of none: as
    of which versions (16 bytes) the home of the view told that the pages are gone."""

    id: str
    view: str
    names: Sequence[bytes]
    publish_unchanged: bool = False
    lane: str = ""
    reason: str = ""
    gone_versions: Sequence[bytes] = ()

    def digest(self) -> bytes:
        """16 bytes that tell it from another one with the same id."""
        head = "\0".join((self.view, str(self.publish_unchanged), self.lane)).encode()
        told = b"\0\0" + b"".join(self.gone_versions) if self.gone_versions else b""
        return hashlib.blake2b(head + b"\0\0" + b"\0".join(self.names) + told, digest_size=16).digest()


@dataclass(frozen=True, slots=True)
class Begun:
    """The root's id (empty: there was nothing to render), its pages, names that the view does not know."""

    root: str
    pages: int
    unknown: list[str]


def rerender(shard: Shard, asked: Rerender) -> tuple[Begun, Awaitable[None] | None]:
    """Begins the root; the awaitable (None where nothing was begun now) ends when it is durable.

    Raises ViewNotFound, ChangeIdInvalid, InvalidArgument, ChangeIdReused, IntakeFull.
    """
    _check(asked)
    view = shard.views.in_force(asked.view)
    known = find_change_id(shard.store, asked.id)
    chosen, unknown = _chosen(shard, view, asked)
    told = [name.decode() for name in unknown[:_MOST_TOLD]]
    if known is not None and known[1]:
        return _repeated(shard, asked, known, told), None
    check_room(shard)
    if asked.names and not chosen:
        return Begun("", 0, told), None
    step = shard.step()
    root = _root(step, asked, known[0] if known is not None else 0)
    if asked.names:
        numbers = step.commit.intern_resources(chosen)
        items = to_set(numbers)
        want(step, root, 1, root.sequence, view, items)
        if asked.gone_versions:
            told_gone = dict(zip(asked.names, asked.gone_versions, strict=True))
            Gone.of(numbers, [told_gone[name] for name in chosen]).put(step.commit, root.sequence)
        pages = len(items)
    else:
        pages = want_all(step, root, root.sequence, view)
    begun = root.sequence in shard.roots
    if not pages and not begun:
        return Begun("", 0, told), None
    told_pages = (*root.record.change.attributes, ("pages", str(pages)))
    if not begun:
        shard.take_in(root)
    step.put_record(root, replace(root.record, change=replace(root.record.change, attributes=told_pages)))
    put_id(step.commit, asked.id, root.sequence, asked.digest())
    durable = step.write()
    shard.signals.accepted.fire()
    shard.signals.news.fire()
    shard.signals.items.fire_all()
    return Begun(asked.id, pages, told), durable


def _check(asked: Rerender) -> None:
    check_change_id(asked.id, "id")
    if len(asked.names) > MAX_NAMES:
        raise InvalidArgument.field("names", f"holds {len(asked.names):,} names; at most {MAX_NAMES:,} are allowed")
    if asked.gone_versions and (len(asked.gone_versions) != len(asked.names) or not asked.publish_unchanged):
        raise InvalidArgument.field(
            "gone_versions",
            f"are {len(asked.gone_versions):,} for {len(asked.names):,} names;"
            " one for each is allowed, with publish_unchanged",
        )
    if asked.lane and not is_word(asked.lane):
        raise InvalidArgument.field("lane", f"is no lane; {WORD_RULE}")


def _chosen(shard: Shard, view: int, asked: Rerender) -> tuple[list[bytes], list[bytes]]:
    """Names that the view renders, by its prefixes or because it did or something was declared; and the others."""
    names = list(dict.fromkeys(asked.names))
    covers = shard.views.by_number[view].covers
    strangers = [name for name in names if not covers(name.decode())]
    if not strangers:
        return names, []
    numbers = shard.store.find_resources(strangers)
    seen = np.sort(numbers[numbers >= 0]).astype(np.uint32)
    counts, _ = shard.store.dependencies(view, seen)
    items = set(seen[(shard.store.rendered_at(view, seen) > 0) | (counts > 0)].tolist())
    unknown = {name for name, number in zip(strangers, numbers.tolist(), strict=True) if number not in items}
    return [name for name in names if name not in unknown], [name for name in strangers if name in unknown]


def _repeated(shard: Shard, asked: Rerender, known: tuple[int, bytes], unknown: list[str]) -> Begun:
    sequence, digest = known
    if digest != asked.digest():
        raise ChangeIdReused(f"the id {asked.id!r} belongs to something else", metadata={"id": asked.id})
    root = shard.roots.get(sequence)
    record = root.record if root is not None else read_root(shard.store, sequence)
    pages = dict(record.change.attributes).get("pages", "0") if record is not None else "0"
    return Begun(asked.id, int(pages), unknown)


def _root(step: Step, asked: Rerender, heard: int) -> Root:
    """A new root, or that of `heard`: its part here, where another shard told of it before it was asked for here."""
    shard = step.shard
    change = Change(
        id=asked.id,
        resource="",
        aspects=(),
        version=bytes(16),
        cause=Cause(KIND),
        lane=asked.lane,
        time_ns=step.now_ns,
        attributes=(("reason", asked.reason), ("rerender", asked.view)),
    )
    record = RootRecord(
        sequence=step.next_sequence(),
        change=change,
        inputs=(),
        state=State.ACTIVE,
        lane=asked.lane or shard.settings.default_lane,
        weight=1,
        revision=shard.views.revision,
        accepted_ns=step.now_ns,
        publish_unchanged=asked.publish_unchanged,
    )
    root = reopening.reopened(step, heard) if heard else None
    if root is not None:
        former = root.record
        root.record = replace(
            record, sequence=root.sequence, state=former.state, reason=former.reason, accepted_ns=former.accepted_ns
        )
        return root
    root = Root(record, Tally(), step.now_s)
    root.reads_before = (shard.heat.reads, shard.heat.fresh)
    return root
