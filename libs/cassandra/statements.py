"""The statements of a store, prepared together and called by name."""

import asyncio
import dataclasses
from collections.abc import Mapping
from typing import Self

from libs.cassandra.session import Session, Statement


@dataclasses.dataclass(frozen=True, slots=True)
class Prepared:
    """``read["name"]``, ``write["name"]``."""

    read: dict[str, Statement]
    write: dict[str, Statement]

    @classmethod
    async def of(cls, session: Session, reads: Mapping[str, str], writes: Mapping[str, str]) -> Self:
        """Prepares CQL by name. Raises Unavailable."""
        read = await asyncio.gather(*(session.prepare(cql, write=False) for cql in reads.values()))
        write = await asyncio.gather(*(session.prepare(cql, write=True) for cql in writes.values()))
        return cls(dict(zip(reads, read, strict=True)), dict(zip(writes, write, strict=True)))
