"""What each server of the store says of itself: a row that goes by its time to live when it is not said again."""

from collections.abc import Callable

from services.session.cassandra.cluster import Cluster


class CassandraFellows:
    """See `store.interface.Fellows`; the table `servers`."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.may_seal: Callable[[], bool] = lambda: True

    async def say(self, server: str, said: bytes, live_s: int) -> None:
        """See Fellows.say."""
        await self._cluster.put("say", server, said, live_s)

    async def said(self) -> dict[str, bytes]:
        """See Fellows.said."""
        return dict(await self._cluster.rows("servers"))
