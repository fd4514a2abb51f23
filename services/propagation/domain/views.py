"""Views as the engine sees them: which resources they cover, and their limits and times.

How a view renders, stores and purges is the executor's business; the engine hands that on unread.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from services.propagation.domain.errors import ViewNotFound


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`max_attempts` counts the first one; backoff doubles from `initial_s` up to `max_s`, with jitter."""

    max_attempts: int = 5
    initial_s: float = 1.0
    max_s: float = 300.0


@dataclass(frozen=True, slots=True)
class View:
    """A derived representation of the resources whose names begin with one of `prefixes`.

    `settle_s` above 0 asks for a second pass so long after a change.
    """

    name: str
    prefixes: tuple[str, ...] = ()
    retry: RetryPolicy = RetryPolicy()
    lease_s: float = 60.0
    settle_s: float = 0.0
    max_dependencies: int = 10_000

    def covers(self, resource: str) -> bool:
        """Whether the view renders this resource."""
        return resource.startswith(self.prefixes) if self.prefixes else False


RETIRED = View("retired")
"""Stands for a view that was left out while leases of it were still out."""


class Views:
    """The views of one revision, by name and by the store's number.

    Retired views keep their numbers: what depends in them is kept, and comes back with them.
    """

    def __init__(self, views: Sequence[View], numbers: Mapping[str, int], revision: int) -> None:
        self.revision = revision
        self.by_name = {view.name: view for view in views}
        self.by_number = {numbers[view.name]: view for view in views}
        self._numbers = {name: numbers[name] for name in self.by_name}
        self._names = {number: name for name, number in numbers.items()}

    def number(self, name: str) -> int:
        """The view's number. Raises ViewNotFound."""
        try:
            return self._numbers[name]
        except KeyError:
            known = ", ".join(sorted(self._numbers)) or "none"
            raise ViewNotFound(f"there is no view {name!r}; the views are: {known}", metadata={"view": name}) from None

    def get(self, name: str) -> View:
        """The view. Raises ViewNotFound."""
        self.number(name)
        return self.by_name[name]

    def name(self, number: int) -> str:
        """The name of a view, retired ones too."""
        return self._names[number]

    def covering(self, resource: str) -> Iterable[int]:
        """Numbers of the views that render the resource."""
        return [self._numbers[name] for name, view in self.by_name.items() if view.covers(resource)]
