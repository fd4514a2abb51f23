"""A history: what clients asked on which record, when, and what they were told; tools/go/cmd/judge reads it."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from collections import Counter
from pathlib import Path

PATIENT_S = 120
"""How long a history may take to grow by what is waited for, on a machine that is busy with other things."""


@dataclasses.dataclass(frozen=True, slots=True)
class Operation:
    """One call on one record. ``op``: get, put or delete; ``outcome``: ok, refused, or unknown when no answer came.

    ``value``: what a put writes, once in a history, or what a get found. ``etag``: what a put was given, or what a get
    or a refusal names as there, empty for nothing. ``family``: what a put belongs to. ``removed``: whether a delete
    found something. ``untold``: the answer says only whether the condition held; ``either``: not even that, only that
    it does not hold now. Times are nanoseconds of one monotonic clock; a call without an answer has no ``returned``.
    """

    client: int
    record: str
    op: str
    called: int
    returned: int = 0
    outcome: str = "ok"
    if_absent: bool = False
    if_etag: str = ""
    if_family: str = ""
    value: str = ""
    etag: str = ""
    family: str = ""
    removed: bool = False
    untold: bool = False
    either: bool = False

    def line(self) -> str:
        """The judge's form of it."""
        fields = {name: value for name, value in dataclasses.asdict(self).items() if value}
        fields["call"] = fields.pop("called")
        if self.returned:
            fields["return"] = fields.pop("returned")
        return json.dumps({"client": self.client, "outcome": self.outcome, **fields})


class History:
    """Operations in the order of their ends, and a way to wait for more of them."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.counts: Counter[str] = Counter()
        self._grew = asyncio.Event()

    def add(self, operation: Operation) -> None:
        """One more. It is counted under its outcome, answered conditions under "held", too."""
        self.operations.append(operation)
        self.counts[operation.outcome] += 1
        self.counts["held"] += operation.outcome == "ok" and bool(
            operation.if_absent or operation.if_etag or operation.if_family
        )
        self._grew.set()

    def lose(self) -> None:
        """An answer was lost, whatever becomes of its call; counted as "lost"."""
        self.counts["lost"] += 1
        self._grew.set()

    async def grow(self, **more: int) -> None:
        """Waits until it has so many more of each kind: ok, refused, unknown, held, lost.

        Raises TimeoutError when that takes longer than PATIENT_S.
        """
        wanted = {kind: self.counts[kind] + number for kind, number in more.items()}
        async with asyncio.timeout(PATIENT_S):
            while any(self.counts[kind] < number for kind, number in wanted.items()):
                self._grew.clear()
                await self._grew.wait()

    def write(self, path: Path) -> None:
        """Into a file that the judge reads."""
        path.write_text("".join(f"{operation.line()}\n" for operation in self.operations))


def now() -> int:
    """Nanoseconds of the clock of all histories."""
    return time.monotonic_ns()
