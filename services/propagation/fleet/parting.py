"""The copy of a shard's store, as of its log's last commit: where each part of the shard begins."""

from services.propagation.domain.generation import begin_dividing, sealed
from services.propagation.store.logged.place import Anchor, Place, put_place, read_place
from services.propagation.store.logged.records import Position
from services.propagation.store.logged.store import NumberedStore
from services.propagation.store.numbered import NumberedCommit


def begin_part(copy: NumberedStore, shards: int) -> NumberedCommit:
    """What makes the copy of the store of one of so many shards the beginning of another log; to be written into it.

    All engines come to the same: owners that came after the seal wrote nothing, and their words do not count. Raises
    LookupError for a store whose log has not ended.
    """
    seal = sealed(copy)
    if seal is None:
        raise LookupError("the log of this store has not ended")
    commit = copy.begin()
    begin_dividing(commit, shards)
    position = Position(seal.epoch, read_place(copy).position.number)
    put_place(commit, Place(position, Anchor(position, -1)))
    return commit
