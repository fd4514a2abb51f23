"""Puts that are alike in all but record and value: a sequence of writes like any other, and for a backend that can use
them so, columns.

To make a write, a command and a put of each costs as much as to store it.
"""

from collections.abc import Sequence
from typing import Final, overload

from services.storage.domain.model import Command, Put, WriteToken
from services.storage.domain.namespace import Namespace
from services.storage.store.interface import Write

_FIRST: Final = (0,)


class Alike(Sequence[Write]):
    """One put in each of many distinct records of a namespace, with one token and no annotations.

    ``pattern`` is the put without its value; ``bodies`` are the digests of the commands, one for each record.
    """

    __slots__ = ("bodies", "namespace", "pattern", "records", "token", "values")

    def __init__(
        self,
        namespace: Namespace,
        token: WriteToken,
        pattern: Put,
        records: Sequence[bytes],
        values: Sequence[bytes],
        bodies: Sequence[bytes],
    ) -> None:
        self.namespace = namespace
        self.token = token
        self.pattern = pattern
        self.records = records
        self.values = values
        self.bodies = bodies

    def __len__(self) -> int:
        return len(self.records)

    @overload
    def __getitem__(self, index: int) -> Write: ...

    @overload
    def __getitem__(self, index: slice) -> list[Write]: ...

    def __getitem__(self, index: int | slice) -> Write | list[Write]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        put = self.pattern._replace(value=self.values[index])
        return Write(self.namespace, Command(self.records[index], self.token, (put,), (), _FIRST, self.bodies[index]))
