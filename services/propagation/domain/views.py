"""Views as the engine sees them: which resources they cover, and their limits and times.

How a view renders, stores and purges is the executor's business; the engine hands that on unread.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from services.propagation.domain.errors import ViewNotFound
from services.propagation.domain.partition import WHOLE, Part


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`max_attempts` counts the first one; backoff doubles from `initial_s` up to `max_s`, with jitter."""

    max_attempts: int = 5
    initial_s: float = 1.0
    max_s: float = 300.0


@dataclass(frozen=True, slots=True)
class View:
    """A derived representation of the resources whose names begin with one of `prefixes`.

    `settle_s` above 0 asks for a second pass so long after a change. One that is `taken` is rendered in another data
    centre: what it covers becomes pending when it was rendered there, not when it changes. Of those resources a shard
    has its `part`.
    """

    name: str
    prefixes: tuple[str, ...] = ()
    retry: RetryPolicy = RetryPolicy()
    lease_s: float = 60.0
    settle_s: float = 0.0
    max_dependencies: int = 10_000
    taken: bool = False
    part: Part = WHOLE

    def covers(self, resource: str) -> bool:
        """Whether the view renders this resource in this shard."""
        return bool(self.prefixes) and resource.startswith(self.prefixes) and self.part.has(resource)


RETIRED = View("retired")
"""Stands for a view that was left out while leases of it were still out."""


class Views:
    """The views in force, by name and by the store's number, and those of `older` revisions that are still at work.

    Retired views keep their numbers: what depends in them is kept, and comes back with them.
    """

    def __init__(
        self,
        views: Sequence[View],
        numbers: Mapping[str, int],
        revision: int,
        older: Mapping[int, Sequence[View]] | None = None,
    ) -> None:
        self.revision = revision
        self.older = {number: tuple(found) for number, found in (older or {}).items() if number < revision or not views}
        self.by_name = {view.name: view for view in views}
        self.by_number = {numbers[view.name]: view for view in views}
        self.in_use = dict(self.by_number)
        """By number: those in force, and retired ones, as they were last, that roots under way began with."""
        self._of: dict[int, Views] = {}
        self._own = frozenset(self.by_name)
        for number in sorted(self.older, reverse=True):
            known = [view for view in self.older[number] if view.name in numbers]
            for view in known:
                self.in_use.setdefault(numbers[view.name], view)
            then = Views(known, numbers, number)
            then.by_number = self.by_number | then.by_number
            then.by_name = self.by_name | then.by_name
            self._of[number] = then
        self._numbers = {view.name: number for number, view in self.in_use.items()}
        self._names = {number: name for name, number in numbers.items()}

    def followed_by(self, views: Sequence[View], numbers: Mapping[str, int], revision: int) -> "Views":
        """Others in force; these become the newest of the older ones."""
        older = dict(self.older)
        if self.revision and self.revision < revision:
            older[self.revision] = tuple(self.by_name.values())
        return Views(views, numbers, revision, older)

    def without(self, revisions: Iterable[int], numbers: Mapping[str, int]) -> "Views":
        """Less these older revisions."""
        gone = set(revisions)
        older = {number: views for number, views in self.older.items() if number not in gone}
        return Views(tuple(self.by_name.values()), numbers, self.revision, older)

    def of(self, revision: int) -> "Views":
        """Those that a root of this revision is worked on with: its own, and newer ones that it did not know.

        `covering` answers for its own only. A revision that is not kept stands for the present one.
        """
        return self._of.get(revision, self)

    def revision_of(self, view: int, revision: int) -> int:
        """Under which revision a root that began with `revision` has the view rendered: that, or the present one."""
        then = self._of.get(revision)
        return revision if then is not None and self._names[view] in then._own else self.revision

    def serves(self, name: str) -> bool:
        """Whether the view is in force, or at work for roots that began with it."""
        return name in self._numbers

    def number(self, name: str) -> int:
        """The view's number. Raises ViewNotFound."""
        try:
            return self._numbers[name]
        except KeyError:
            known = ", ".join(sorted(self._numbers)) or "none"
            raise ViewNotFound(f"there is no view {name!r}; the views are: {known}", metadata={"view": name}) from None

    def in_force(self, name: str) -> int:
        """The view's number. Raises ViewNotFound, also for one that is at work for older roots only."""
        number = self.number(name)
        if number not in self.by_number:
            raise ViewNotFound(f"the view {name!r} was left out of the views", metadata={"view": name})
        return number

    def get(self, name: str) -> View:
        """The view. Raises ViewNotFound."""
        return self.in_use[self.number(name)]

    def name(self, number: int) -> str:
        """The name of a view, retired ones too."""
        return self._names[number]

    def covering(self, resource: str) -> Iterable[int]:
        """Numbers of the views of this very revision that render the resource here."""
        own = (self.by_name[name] for name in self._own)
        return [self._numbers[view.name] for view in own if view.covers(resource) and not view.taken]
