"""A root as all shards together have it: counts added up, finished when all have finished it."""

from collections.abc import Sequence

from libs.errors.errors import WellspringError
from services.propagation.domain.errors import ChangeNotFound
from services.propagation.fleet.ids import change_told
from services.propagation.fleet.shards import Answers
from wellspring.propagation.v1 import propagation_pb2

_Root = propagation_pb2.Root
_ADDED = (
    "total",
    "done",
    "changed",
    "unchanged",
    "coalesced",
    "failed",
    "retrying",
    "leased",
    "held_back",
    "rate_per_s",
    "renderer_seconds",
)
FINISHED = frozenset((_Root.STATE_DONE, _Root.STATE_CANCELLED, _Root.STATE_DONE_WITH_FAILURES))
_BY_WEIGHT = (
    _Root.STATE_ACTIVE,
    _Root.STATE_PAUSED,
    _Root.STATE_CANCELLED,
    _Root.STATE_DONE_WITH_FAILURES,
    _Root.STATE_DONE,
)
"""The first of these that a shard says is the state of all."""


def together(answers: Answers, change_id: str) -> propagation_pb2.Root:
    """The root out of each shard's answer; shards that do not know it have no part in it.

    Raises ChangeNotFound when none knows it, and the first other error among the answers.
    """
    found: list[tuple[int, propagation_pb2.Root]] = []
    for shard, answer in answers.items():
        if isinstance(answer, WellspringError):
            if answer.reason != ChangeNotFound.default_reason:
                raise answer
        else:
            found.append((shard, answer))
    if not found:
        raise ChangeNotFound(f"no change {change_id!r} is known", metadata={"id": change_id})
    return _added(found)


def agree(before: Answers, after: Answers) -> bool:
    """Whether no shard took up the root again between two answers of each. If all had finished it in both, they had
    at once between the two; one that has told others of what follows has not finished until they took that up."""
    return _ends(before) == _ends(after)


def _ends(answers: Answers) -> dict[int, tuple[int, int]]:
    return {
        shard: (answer.finish_time.ToNanoseconds(), answer.progress.total)
        for shard, answer in answers.items()
        if not isinstance(answer, WellspringError)
    }


def _added(found: Sequence[tuple[int, propagation_pb2.Root]]) -> propagation_pb2.Root:
    shard, first = next((one for one in found if one[1].change.resource or one[1].change.attributes), found[0])
    roots = [root for _, root in found]
    whole = propagation_pb2.Root()
    whole.CopyFrom(first)
    whole.change.id = change_told(shard, first.change.id)
    whole.state = min((root.state for root in roots), key=_BY_WEIGHT.index)
    whole.left = sum(root.left for root in roots)
    whole.superseded_by = next((change_told(at, root.superseded_by) for at, root in found if root.superseded_by), "")
    if whole.state in FINISHED:
        whole.finish_time.CopyFrom(max((root.finish_time for root in roots), key=lambda time: time.ToNanoseconds()))
    else:
        whole.ClearField("finish_time")
    _add_progress(whole.progress, [root.progress for root in roots])
    return whole


def _add_progress(whole: propagation_pb2.Progress, parts: Sequence[propagation_pb2.Progress]) -> None:
    for name in _ADDED:
        setattr(whole, name, sum(getattr(part, name) for part in parts))
    whole.levels = max(part.levels for part in parts)
    etas = [part.eta for part in parts if part.HasField("eta")]
    whole.ClearField("eta")
    if etas:
        whole.eta.CopyFrom(max(etas, key=lambda eta: eta.ToNanoseconds()))
    pages = sum(part.total for part in parts)
    if pages:
        whole.reads_fresh_share = sum(part.reads_fresh_share * part.total for part in parts) / pages
