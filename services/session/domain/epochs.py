"""Epochs: one counter for each data centre, so that no two can undo each other's revocations; they only grow."""

from services.session.domain.model import Epoch, Epochs


def raised(epoch: Epoch, datacentre: str, at_us: int) -> Epoch:
    """The epoch after `datacentre` revoked everything once more."""
    counters = dict(epoch.counters)
    counters[datacentre] = counters.get(datacentre, 0) + 1
    return Epoch(tuple(sorted(counters.items())), max(epoch.raised_us, at_us))


def merged(one: Epoch, other: Epoch) -> Epoch:
    """Both, as when two data centres hear of each other: no counter ever falls."""
    counters = dict(one.counters)
    for datacentre, count in other.counters:
        counters[datacentre] = max(counters.get(datacentre, 0), count)
    return Epoch(tuple(sorted(counters.items())), max(one.raised_us, other.raised_us))


def is_below(stamp: Epochs, current: Epoch) -> bool:
    """Whether any component of the stamp is below the current one: what bears the stamp is revoked."""
    if stamp == current.counters:
        return False
    had = dict(stamp)
    return any(had.get(datacentre, 0) < count for datacentre, count in current.counters)
