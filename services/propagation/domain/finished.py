"""Finished roots in the order of their ends, for who follows them: `finished`, sequence of the end → the root's."""

from collections.abc import Iterator

from services.propagation.domain.sequence import decode, encode
from services.propagation.store.interface import Commit, Store

FINISHED = "finished"


def note(commit: Commit, ended: int, root: int) -> None:
    """The root ended at this sequence."""
    commit.put_record(FINISHED, encode(ended), encode(root))


def after(store: Store, position: int, limit: int) -> Iterator[tuple[int, int]]:
    """(sequence of the end, the root's) of those that ended after a sequence, oldest first."""
    for key, value in store.records(FINISHED, start=encode(position + 1), limit=limit):
        yield decode(key), decode(value)


def forget(store: Store, commit: Commit, up_to: int, limit: int) -> int:
    """Forgets ends of roots up to a sequence, oldest first, at most so many; answers how many."""
    forgotten = 0
    for key, value in store.records(FINISHED, limit=limit):
        if decode(value) > up_to:
            break
        commit.delete_record(FINISHED, key)
        forgotten += 1
    return forgotten
