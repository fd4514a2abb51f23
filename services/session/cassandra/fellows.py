"""What each server of the store says of itself: a row that goes by its time to live when it is not said again.

A server says it at the quorum of its own data centre, which is where it is read, too: copies elsewhere may be late.
"""

import asyncio
from collections.abc import Callable, Sequence

from services.session.cassandra.cluster import Cluster


class CassandraFellows:
    """See `store.interface.Fellows`; the table `servers`. `ask(datacentre)` is the cluster as another one sees it."""

    def __init__(self, cluster: Cluster, own: str, others: Sequence[str], ask: Callable[[str], Cluster]) -> None:
        self._cluster = cluster
        self._own = own
        self._others = others
        self._ask = ask
        self.may_seal: Callable[[], bool] = lambda: True
        self.opens: Callable[[int], bool] = lambda _: True

    async def say(self, server: str, said: bytes, live_s: int) -> None:
        """See Fellows.say."""
        await self._cluster.put("say", self._of(self._own) + server, said, live_s)

    async def near(self) -> dict[str, bytes]:
        """See Fellows.near."""
        return dict(await self._cluster.rows("servers"))

    async def said(self) -> dict[str, bytes]:
        """See Fellows.said."""
        found: dict[str, bytes] = {}
        asked = {self._own: self._cluster} | {other: self._ask(other) for other in self._others}
        for datacentre, rows in zip(
            asked, await asyncio.gather(*(c.rows("servers") for c in asked.values())), strict=True
        ):
            found |= {server: said for server, said in rows if server.startswith(self._of(datacentre))}
        return found

    def _of(self, datacentre: str) -> str:
        """How the names of a data centre's servers begin."""
        return f"{datacentre}/" if self._others else ""
