"""Outputs: which resources are what a view makes of others, and which of them anything depends on.

Two columns: of a resource, whose output it is; of a (view, resource), the input that is its output's content, with a
mark whether it has dependents now. The marks are also kept in memory, as sets.
"""

from collections.abc import Callable

import numpy as np
from pyroaring import BitMap

from libs.embedded.family import Family
from services.propagation.store import outputs
from services.propagation.store.embedded_columns import Column
from services.propagation.store.embedded_draft import Draft
from services.propagation.store.embedded_layout import u16
from services.propagation.store.interface import Numbers
from services.propagation.store.numbers import to_numbers, to_set

_SOURCE = np.dtype([("view", "<u2"), ("resource", "<u4")])  # the view's number and one, so that nothing is zero
_PAGE = 10_000


class Outputs:
    """Outputs of one store."""

    def __init__(self, names: Family, columns: Family, views: dict[str, int]) -> None:
        self._names = names
        self._columns = columns
        self._sources = Column(columns, b"s", _SOURCE)
        self._any = next(self._sources.blocks(), None) is not None
        self._inputs: dict[int, Column] = {}
        self._members: dict[int, BitMap] = {}
        # Input numbers that are an output's content.
        self._known = BitMap()
        for view in views.values():
            self._load(view)

    def with_dependents(self, view: int) -> BitMap:
        """Resources whose output has dependents."""
        return self._members.setdefault(view, BitMap())

    def inputs(self, view: int, resources: Numbers) -> Numbers:
        """The inputs of these resources' outputs; all have one."""
        return _number(self._column(view).gather(resources))

    # -- what a write brings, in this order ---------------------------------------------------------------------------

    def draft_views(self, draft: Draft, views: dict[str, int], find: Callable[[list[bytes]], Numbers]) -> Numbers:
        """New views: their outputs may have names already. Answers these outputs' resource numbers."""
        found: list[int] = []
        for view in views:
            prefix = outputs.PREFIX + view.encode() + b"/"
            page: dict[bytes, int] = {}
            for name, value in self._names.scan(prefix):
                page[name] = int.from_bytes(value, "big")
                if len(page) >= _PAGE:
                    found += self.draft_names(draft, page, views, find).tolist()
                    page = {}
            found += self.draft_names(draft, page, views, find).tolist()
        return np.array(found, np.uint32)

    def draft_names(
        self, draft: Draft, fresh: dict[bytes, int], views: dict[str, int], find: Callable[[list[bytes]], Numbers]
    ) -> Numbers:
        """New names: some are outputs. Answers these outputs' resource numbers."""
        if not outputs.may_be_among(fresh):
            return np.empty(0, np.uint32)
        split = [(number, outputs.split(name)) for name, number in fresh.items() if name.startswith(outputs.PREFIX)]
        parts = [(number, views[one[0].decode()], one[1]) for number, one in split if one and one[0].decode() in views]
        numbers = np.array([part[0] for part in parts], np.uint32)
        if parts:
            sources = np.empty(len(parts), _SOURCE)
            sources["view"] = [part[1] + 1 for part in parts]
            sources["resource"] = find([part[2] for part in parts])
            self._sources.scatter(draft, numbers, sources)
            self._any = True
        return numbers

    def draft_inputs(self, draft: Draft, inputs: Numbers, resources: Numbers) -> Numbers:
        """Inputs of the aspect "content" that are new, or whose resource became an output: answers those of outputs."""
        if not self._any or not len(inputs):
            return inputs[:0]
        views, sources = self._source(resources, draft)
        mine = views >= 0
        for view in np.unique(views[mine]).tolist():
            here = views == view
            self._column(view).scatter(draft, sources[here], (inputs[here] + 1) << 1)
        return inputs[mine]

    def draft_edges(
        self, draft: Draft, inputs: Numbers, resources: Numbers, have: np.ndarray
    ) -> list[tuple[int, Numbers, np.ndarray]]:
        """Outputs' inputs whose edges the write changes: `have` tells which have dependents afterwards.

        Answers (view, resources, have) for `written`.
        """
        views, sources = self._source(resources, draft)
        marks = []
        for view in np.unique(views).tolist():
            here = views == view
            self._column(view).scatter(draft, sources[here], ((inputs[here] + 1) << 1) | have[here])
            marks.append((view, sources[here], have[here]))
        return marks

    def known(self, inputs: Numbers) -> Numbers:
        """Those of the inputs that are an output's content, ascending."""
        return to_numbers(to_set(inputs) & self._known) if self._known else inputs[:0]

    def written(self, fresh: Numbers, marks: list[tuple[int, Numbers, np.ndarray]]) -> None:
        """The write was applied."""
        self._known |= to_set(fresh)
        for view, resources, have in marks:
            members = self.with_dependents(view)
            members |= to_set(resources[have])
            members -= to_set(resources[~have])

    def _source(self, resources: Numbers, draft: Draft) -> tuple[np.ndarray, Numbers]:
        sources = self._sources.gather(resources, draft)
        return sources["view"].astype(np.int64) - 1, sources["resource"]

    def _column(self, view: int) -> Column:
        column = self._inputs.get(view)
        if column is None:
            column = self._inputs[view] = Column(self._columns, b"o" + u16(view), "<u4")
        return column

    def _load(self, view: int) -> None:
        members = self.with_dependents(view)
        for first, values in self._column(view).blocks():
            members |= to_set((np.flatnonzero(values & 1) + first).astype(np.uint32))
            self._known |= to_set(_number(values[values > 0]))


def _number(values: Numbers) -> Numbers:
    return ((values >> 1) - 1).astype(np.uint32)
