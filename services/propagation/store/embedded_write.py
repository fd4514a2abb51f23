"""Turning a commit into one batch: each step sees what the steps before it put, and nothing else sees any of it."""

from dataclasses import dataclass, field

import numpy as np

from services.propagation.store import embedded_arrivals as arrivals
from services.propagation.store import embedded_recent
from services.propagation.store.edges import Keys, pair
from services.propagation.store.embedded_commit import EmbeddedCommit, Toggles
from services.propagation.store.embedded_draft import Draft
from services.propagation.store.embedded_layout import u64
from services.propagation.store.embedded_tables import Tables
from services.propagation.store.interface import Numbers
from services.propagation.store.numbers import group_starts

_NONE = np.empty(0, np.uint32)


@dataclass(slots=True)
class Effects:
    """What memory has to learn once the batch is applied."""

    outputs: list[Numbers] = field(default_factory=list)
    marks: list[tuple[int, Numbers, np.ndarray]] = field(default_factory=list)
    arrived: list[tuple[bytes, int]] = field(default_factory=list)
    recent: list[tuple[int, int, Keys]] = field(default_factory=list)
    edges: int = 0


def draft_commit(tables: Tables, commit: EmbeddedCommit, draft: Draft) -> Effects:
    """Puts everything that a commit gathered into `draft`."""
    effects = Effects()
    became = _draft_numbers(tables, commit, draft)
    linked = _draft_inputs(tables, commit, draft, became, effects)
    _draft_edges(tables, commit, draft, linked, effects)
    for step in commit.steps:
        step(draft)
    return effects


def applied(tables: Tables, commit: EmbeddedCommit, effects: Effects) -> None:
    """Brings memory up to what was written."""
    tables.views.written.update(commit.views)
    if commit.names:
        tables.names.written(commit.names)
    if commit.inputs:
        tables.inputs.written(commit.inputs)
    if commit.named:
        tables.inputs.learn(commit.named)
    tables.outputs.written(np.concatenate([_NONE, *effects.outputs]), effects.marks)
    for key, edges in effects.arrived:
        tables.compaction.note(key, edges)
    for view, number, toggles in effects.recent:
        tables.recent.written(view, number, toggles)
    tables.edge_count += effects.edges
    if commit.edges_seen is not None:
        tables.edge_commits += 1


def _draft_numbers(tables: Tables, commit: EmbeddedCommit, draft: Draft) -> Numbers:
    """Views and names; answers resources that are outputs from now on."""
    became = _NONE
    if commit.views:
        tables.views.draft(draft, commit.views)
        became = tables.outputs.draft_views(draft, commit.views, tables.names.numbers)
    if commit.names:
        tables.names.draft(draft, commit.names)
        views = {**tables.views.written, **commit.views}
        new = tables.outputs.draft_names(draft, commit.names, views, tables.names.numbers)
        became = np.concatenate((became, new))
        count = max(tables.names.count, max(commit.names.values()) + 1)
        draft.put(tables.meta, b"resources", u64(count))
    return became


def _draft_inputs(tables: Tables, commit: EmbeddedCommit, draft: Draft, became: Numbers, effects: Effects) -> Numbers:
    """Inputs; answers those that are an output's content from now on."""
    linked = _NONE
    if commit.inputs:
        inputs, resources = tables.inputs.draft(draft, commit.inputs)
        linked = tables.outputs.draft_inputs(draft, inputs, resources)
        draft.put(tables.meta, b"inputs", u64(max(tables.inputs.count, max(commit.inputs.values()) + 1)))
    known = [(number, tables.inputs.find(number, "content")) for number in became.tolist()]
    old = np.array([one for one in known if one[1] >= 0], np.uint32).reshape(-1, 2)
    linked = np.concatenate((linked, tables.outputs.draft_inputs(draft, old[:, 1], old[:, 0])))
    effects.outputs.append(linked)
    return linked


def _draft_edges(tables: Tables, commit: EmbeddedCommit, draft: Draft, linked: Numbers, effects: Effects) -> None:
    draft.put_many(tables.forward.family, commit.forward.blocks())
    touched = [linked]
    number = tables.next_commit()
    for view, toggles in commit.toggles.items():
        edges = np.concatenate((*toggles.added, *toggles.removed))
        edges.sort()
        edges = arrivals.odd(edges)
        if len(edges) >= embedded_recent.LARGE and arrivals.are_worth_records(edges):
            effects.arrived += arrivals.draft(draft, tables.reverse.arrived, view, number, edges)
        elif len(edges):
            tables.recent.draft(draft, view, number, edges)
            effects.recent.append((view, number, edges))
        effects.edges += sum(map(len, toggles.added)) - sum(map(len, toggles.removed))
        inputs = (edges >> np.uint64(32)).astype(np.uint32)
        touched.append(inputs[group_starts(inputs)])
    if effects.edges:
        draft.put(tables.meta, b"edges", u64(tables.edge_count + effects.edges))
    _draft_marks(tables, commit, draft, linked, np.concatenate(touched), effects)


def _draft_marks(
    tables: Tables, commit: EmbeddedCommit, draft: Draft, linked: Numbers, touched: Numbers, effects: Effects
) -> None:
    """Which outputs have dependents once this is written."""
    inputs = np.concatenate((linked, tables.outputs.known(touched)))
    if not len(inputs):
        return
    inputs = np.sort(inputs)
    inputs = inputs[group_starts(inputs)]
    added = _times(inputs, [keys for toggles in commit.toggles.values() for keys in toggles.added])
    removed = _times(inputs, [keys for toggles in commit.toggles.values() for keys in toggles.removed])
    have = added > 0
    for at in np.flatnonzero((added == 0) | (removed > 0)).tolist():
        before = sum(map(len, tables.reverse.dependents(int(inputs[at])).values()))
        have[at] = before + int(added[at]) > int(removed[at])
    effects.marks = tables.outputs.draft_edges(draft, inputs, tables.inputs.resources(inputs, draft), have)


def _times(inputs: Numbers, keys: list[Keys]) -> np.ndarray:
    """How many of the keys each input has."""
    ordered = np.sort(np.concatenate([np.empty(0, np.uint64), *keys]))
    bounds = pair(inputs, np.zeros(len(inputs), np.uint32))
    return np.searchsorted(ordered, bounds + np.uint64(1 << 32)) - np.searchsorted(ordered, bounds)


__all__ = ["Effects", "Toggles", "applied", "draft_commit"]
