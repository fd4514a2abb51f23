"""One slice of a batch through all its steps: render, compare, publish; then what to tell the engine.

Whatever ends half way is reported as a failure, or not at all; the engine then leases it again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from services.propagation.executor.hashing import output_hash, taken_hash
from services.propagation.executor.pages import (
    DEFAULT_MAX_OUTPUT_BYTES,
    Dependencies,
    Item,
    Page,
    RenderFailed,
    SawOlder,
    Withheld,
    check_page,
)
from services.propagation.executor.ports import Caches, Documents
from services.propagation.executor.publishing import Changed
from services.propagation.executor.renderers import Slice
from services.propagation.executor.runtimes import ViewRuntime
from services.propagation.executor.sources import Sources
from services.propagation.targets.budget import RetryBudget
from wellspring.propagation.v1 import work_pb2


@dataclass(slots=True)
class Failed:
    """Why an item is not done."""

    item: Item
    reason: str
    detail: str
    retryable: bool = True
    retry_after_s: float = 0.0


@dataclass(slots=True)
class Report:
    """What became of a slice. `done` are (item, hash, dependencies). `withheld` were not tried, or not to the end, and
    should not be before `withheld_s` have passed."""

    done: list[tuple[Item, bytes, Dependencies | None]] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)
    saw_older: list[Item] = field(default_factory=list)
    withheld: list[Item] = field(default_factory=list)
    withheld_s: float = 0.0
    changed: int = 0
    size_bytes: int = 0
    """Of the pages, together."""
    renderer_seconds: float = 0.0

    def withhold(self, item: Item, seconds: float) -> None:
        """It goes back to the engine later."""
        self.withheld.append(item)
        self.withheld_s = max(self.withheld_s, seconds)


async def run_slice(
    runtime: ViewRuntime,
    items: Sequence[Item],
    batch: work_pb2.Batch,
    sources: Sources,
    documents: Documents,
    caches: Caches,
    *,
    first: bool = False,
) -> Report:
    """Takes the items through every step. Raises nothing of theirs: each failure is in the report. `first`: they are
    rendered before what waits for the same renderer."""
    report = Report()
    given = Slice(sources, [one for root in batch.roots for one in root.inputs], first, documents=documents)
    outcomes = await runtime.renderer.render(items, given)
    report.renderer_seconds = given.seconds
    changed: list[Changed] = []
    view = runtime.view
    max_bytes = view.render.max_output_bytes or DEFAULT_MAX_OUTPUT_BYTES
    for item, outcome in zip(items, outcomes, strict=True):
        if isinstance(outcome, Page):
            problem = check_page(outcome, item, view, max_bytes)
            if problem is not None:
                _not_done(report, item, problem)
                continue
            report.size_bytes += len(outcome.body)
            hashed = output_hash(None if outcome.missing else outcome.body, outcome.content_type, outcome.tags)
            if outcome.stored_as and not outcome.missing:
                hashed = taken_hash(hashed, outcome.stored_as)
            if hashed == item.accepted_hash:
                report.done.append((item, hashed, outcome.dependencies))
            else:
                changed.append(Changed(item, outcome, hashed))
        elif isinstance(outcome, SawOlder):
            report.saw_older.append(item)
        else:
            _not_done(report, item, outcome)
    if changed:
        # Of several roots the first one speaks for all.
        cause = next((root.cause.request_id or root.root for root in batch.roots), "")
        problems = await runtime.publisher.publish(changed, batch.rendered_version, documents, caches, cause)
        for one, trouble in zip(changed, problems, strict=True):
            if trouble is None:
                report.done.append((one.item, one.hash, one.page.dependencies))
                report.changed += 1
            else:
                _not_done(report, one.item, trouble)
    return report


def affordable(items: Sequence[Item], budget: RetryBudget, now_s: float) -> tuple[list[Item], list[Item]]:
    """The items that may be tried now, and the retries for which the budget has nothing left."""
    retries = [item for item in items if item.attempts]
    budget.first(len(items) - len(retries))
    if not retries:
        return list(items), []
    refused = {item.id for item in retries if not budget.retry(now_s)}
    return [item for item in items if item.id not in refused], [item for item in retries if item.id in refused]


def _not_done(report: Report, item: Item, problem: RenderFailed | Withheld) -> None:
    if isinstance(problem, Withheld):
        report.withhold(item, problem.retry_after_s)
    else:
        report.failed.append(Failed(item, problem.reason, problem.detail, problem.retryable, problem.retry_after_s))


def minimum_versions(batch: work_pb2.Batch) -> Mapping[str, bytes]:
    """The version that each changed input must have at least, by resource."""
    minimums: dict[str, bytes] = {}
    for root in batch.roots:
        for given in root.inputs:
            minimums[given.resource] = max(minimums.get(given.resource, b""), given.version)
    return minimums
