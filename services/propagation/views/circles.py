"""Views that store into what another one reads: a circle of them would render for ever, each change making the next."""

from collections.abc import Iterator, Mapping


def circles(views: Mapping[str, tuple[str, str]]) -> Iterator[list[str]]:
    """Each circle of two views and more, once; of the view's (source namespace, store's namespace), empty for none.

    A circle begins at the view of it that comes first. A view that reads what it stores itself is not told here.
    """
    readers: dict[str, list[str]] = {}
    for name, (source, _) in views.items():
        if source:
            readers.setdefault(source, []).append(name)
    order = {name: at for at, name in enumerate(views)}
    over: set[str] = set()
    for first in views:
        if first not in over:
            circle = _circle(first, views, readers, over)
            if circle:
                start = min(range(len(circle)), key=lambda at: order[circle[at]])
                yield circle[start:] + circle[:start]
                over |= set(circle)


def _circle(
    first: str, views: Mapping[str, tuple[str, str]], readers: Mapping[str, list[str]], over: set[str]
) -> list[str]:
    """A circle that can be reached from the view, through views that are not over; all that is met is over then."""
    path: list[str] = []
    branches = [iter([first])]
    while branches:
        name = next(branches[-1], None)
        if name is None:
            branches.pop()
            if path:
                path.pop()
            continue
        if name in path:
            circle = path[path.index(name) :]
            if len(circle) > 1:
                return circle
            continue
        if name in over:
            continue
        over.add(name)
        path.append(name)
        branches.append(iter(readers.get(views[name][1], []) if views[name][1] else []))
    return []
