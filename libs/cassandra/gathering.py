"""Reads of different partitions that are alike, asked for at about the same time, are one request.

A node takes much less for a partition among many than for a request of its own, and so does the driver. Reads of the
same replicas take turns (``turns.py``). Whoever asks gets what was read after he asked, as by ``joining``; those who
wait for the same partition share it.

Each caller has his own outcome (``sharing.py``). Requests are smaller while one partition brought many bytes.
"""

import asyncio
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple, Protocol

from libs.cassandra.options import Options
from libs.cassandra.session import Row, Statement
from libs.cassandra.sharing import Shared, gone
from libs.cassandra.turns import PATIENCE_S, Turns, Work

MOST: Final = 32
"""Partitions of one request."""
MOST_BYTES: Final = 1 << 20
"""Of one answer, if partitions are as large as those of before."""
_FORGET: Final = 0.9
"""How fast the largest answer for one partition is forgotten, by request."""

Values = tuple[Any, ...]


class Kind(NamedTuple):
    """What is read. ``one`` takes the values (*before, place, *after); ``many`` takes (*before, [places], *after), and
    its rows begin with the place of theirs. Neither must page. ``key(before, place)`` is the partition's key as the
    cluster hashes it."""

    one: Statement
    many: Statement
    key: Callable[[Values, Any], bytes]


class Asked(Protocol):
    """What is read from: a ``Session``."""

    @property
    def options(self) -> Options: ...

    def replicas(self, key: bytes) -> Hashable: ...

    async def execute(
        self,
        statement: Statement,
        values: Sequence[Any],
        consistency: int,
        *,
        timeout_s: float | None = None,
        key: bytes | None = None,
    ) -> list[Row]: ...


class _Shape(NamedTuple):
    """What reads that share a request have in common."""

    before: Values
    after: Values
    consistency: int
    replicas: Hashable


_Waiting = list["asyncio.Future[list[Row]]"]
_Places = dict[Hashable, _Waiting]
"""Who waits for each place."""


class _Place(NamedTuple):
    """One that is asked for, and who waits for it."""

    shape: _Shape
    place: Hashable
    waiting: _Waiting


class _Queue(NamedTuple):
    """Reads of one shape."""

    waiting: _Places
    turns: Turns


class Gathered:
    """Reads of one kind, of one session. All methods belong to its event loop."""

    def __init__(self, session: Asked, kind: Kind, *, most: int = MOST, patience_s: float = PATIENCE_S) -> None:
        self._session = session
        self._kind = kind
        self._patience_s = patience_s
        self._shared: Shared[_Place] = Shared(most, waiting=_waiting, alone=self._alone, together=self._together)
        self._largest = 0.0
        self._queues: dict[_Shape, _Queue] = {}

    async def read(self, place: Hashable, consistency: int, before: Values = (), after: Values = ()) -> list[Row]:
        """The rows of the partition at ``place``, as ``Kind.one`` brings them. They are shared, and not to be changed.
        Values are hashable. Raises as ``Session.execute``."""
        return await self.ask(place, consistency, before, after)

    def ask(
        self, place: Hashable, consistency: int, before: Values = (), after: Values = ()
    ) -> "asyncio.Future[list[Row]]":
        """As ``read``, asked for before anybody waits."""
        shape = _Shape(before, after, consistency, self._session.replicas(self._kind.key(before, place)))
        queue = self._queues.get(shape)
        if queue is None:
            queue = self._queues[shape] = self._queue(shape)
        mine: asyncio.Future[list[Row]] = asyncio.get_running_loop().create_future()
        queue.waiting.setdefault(place, []).append(mine)
        queue.turns.came()
        return mine

    def _queue(self, shape: _Shape) -> _Queue:
        waiting: _Places = {}

        def take() -> Work | None:
            taken = self._take(shape, waiting)
            return self._shared.run(taken, self._session.options.request_timeout_s) if taken else None

        def full() -> bool:
            return len(waiting) >= self._room()

        def idle() -> None:
            del self._queues[shape]

        return _Queue(waiting, Turns(waiting, take, idle, full=full, patience_s=self._patience_s))

    def _room(self) -> int:
        """Partitions of the next request."""
        return max(1, min(self._shared.most, int(MOST_BYTES / max(1.0, self._largest))))

    def _take(self, shape: _Shape, waiting: _Places) -> list[_Place]:
        taken: list[_Place] = []
        room = self._room()
        for place in list(islice(waiting, room)):
            those = waiting.pop(place)
            if not gone(those):
                taken.append(_Place(shape, place, those))
        return taken

    async def _together(self, asked: Sequence[_Place], timeout_s: float) -> list[list[Row]]:
        shape = asked[0].shape
        places = [one.place for one in asked]
        values = (*shape.before, places, *shape.after)
        key = self._kind.key(shape.before, places[0])
        found = await self._session.execute(self._kind.many, values, shape.consistency, timeout_s=timeout_s, key=key)
        rows: dict[Hashable, list[Row]] = {place: [] for place in places}
        for row in found:
            rows[row[0]].append(row[1:])
        answers = list(rows.values())
        self._measure(answers)
        return answers

    async def _alone(self, asked: _Place, timeout_s: float) -> list[Row]:
        shape = asked.shape
        values = (*shape.before, asked.place, *shape.after)
        rows = await self._session.execute(self._kind.one, values, shape.consistency, timeout_s=timeout_s)
        self._measure((rows,))
        return rows

    def _measure(self, answers: Iterable[list[Row]]) -> None:
        """Notes how much partitions bring."""
        self._largest = max(self._largest * _FORGET, *(sum(map(_size, rows)) for rows in answers))


def _size(row: Row) -> int:
    """Bytes of its values, about."""
    size = 0
    for value in row:
        if isinstance(value, bytes):
            size += len(value)
        elif value is not None and not isinstance(value, int) and isinstance(value, Mapping):
            size += sum(len(key) + len(one) for key, one in value.items())
    return size


def _waiting(asked: _Place) -> _Waiting:
    return asked.waiting
