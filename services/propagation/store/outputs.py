"""Outputs are resources with a name of their own, `view/<view>/<resource>`: the one place that takes it apart."""

from collections.abc import Iterable

PREFIX = b"view/"


def split(name: bytes) -> tuple[bytes, bytes] | None:
    """(view, resource) of an output's name; None for every other name."""
    if not name.startswith(PREFIX):
        return None
    view, slash, resource = name[len(PREFIX) :].partition(b"/")
    return (view, resource) if view and slash and resource else None


def may_be_among(names: Iterable[bytes]) -> bool:
    """False when no output is among the names: one look, where there are hundreds and hardly ever an output."""
    return PREFIX in b"\0".join(names)


def with_sources(names: list[bytes]) -> list[bytes]:
    """The names and, behind them, the resources that the outputs among them are made of, however deep."""
    found = names if may_be_among(names) else []
    while found := [parts[1] for name in found if name.startswith(PREFIX) and (parts := split(name))]:
        names = names + found
    return names


def check_view(name: str) -> str:
    """The name. Raises ValueError for one that could not stand in an output's name."""
    if not name or "/" in name:
        raise ValueError(f"the name of a view is not empty and has no slash: {name!r}")
    return name
