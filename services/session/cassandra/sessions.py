"""Sessions, each a partition: a head and its sealed values, changed together on the condition of the head's revision.

The first write of a session is plain and bears the time 1: a handle is random and used once, so that there is nothing
to decide, and no conditional write can be older. No other write bears a time of ours; a plain one from a clock that is
ahead would stand above conditional ones, which would be answered as taken all the same.
"""

import secrets
from collections.abc import Sequence
from typing import Final, NamedTuple

from services.session.cassandra.cluster import ATTEMPTS, Cluster, Write
from services.session.cassandra.layout import ttl_s
from services.session.domain.errors import Contended
from services.session.domain.model import Item, Session
from services.session.store import codec

_HEAD: Final = b""
"""The key of the row that every session has."""
_FIRST: Final = b""
"""The nonce of a first write, of which there is one."""


class Found(NamedTuple):
    """A session with some of its items; None when it is not there."""

    session: Session | None
    items: dict[bytes, Item]


class Sessions:
    """The table `sessions`."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def head(self, realm: str, handle: str) -> Session | None:
        """A session without its items."""
        rows = await self._cluster.asked("head", realm, handle)
        row = rows[0] if rows else None
        return None if row is None or row[0] is None else codec.decode_session(realm, handle, row[0])

    async def revision(self, realm: str, handle: str) -> int | None:
        """A session's revision; None when it is not there."""
        rows = await self._cluster.asked("head", realm, handle)
        return rows[0][1] if rows else None

    async def read(self, realm: str, handle: str, keys: Sequence[bytes], kinds: bytes) -> Found:
        """A session with the items of `keys` and of `kinds`, as of one moment."""
        if not keys and not kinds:
            return Found(await self.head(realm, handle), {})
        if kinds:
            rows = await self._cluster.rows("all_rows", realm, handle)
        else:
            rows = await self._cluster.rows("rows", realm, handle, [_HEAD, *keys])
        if not rows or rows[0][2] is None:
            return Found(None, {})
        wanted = set(keys)
        items = {
            key: codec.decode_item(key, item)
            for key, item, _ in rows
            if key and item is not None and (key in wanted or key[0] in kinds)
        }
        return Found(codec.decode_session(realm, handle, rows[0][2]), items)

    def first(self, session: Session, items: Sequence[Item]) -> list[Write]:
        """The plain writes of a new session, which nobody knows of yet."""
        live_s = self._live_s(session)
        at = session.realm, session.handle
        head = codec.encode_session(session), session.revision, _FIRST, live_s
        writes = [self._cluster.write("first_head", *at, _HEAD, b"", *head)]
        for item in items:
            item_s = self._item_live_s(item, session) if item.until_us else live_s
            writes.append(self._cluster.write("first_item", *at, item.key, codec.encode_item(item), item_s))
        return writes

    async def replace(self, before: Session, after: Session, put: Sequence[Item], remove: Sequence[bytes]) -> bool:
        """The session's next revision; False when it is not at `before`'s any more."""
        realm, handle, nonce = after.realm, after.handle, secrets.token_bytes(8)
        if after.ends_us > before.ends_us:
            # All that lives as long as the session is written again, to live as long as it does now.
            there = await self._cluster.rows("all_rows", realm, handle)
            changed = {*remove, *(item.key for item in put)}
            kept = [codec.decode_item(key, item) for key, item, _ in there if key and key not in changed]
            put = [*put, *(item for item in kept if not item.until_us), Item(_HEAD, 0, b"")]
        values = self._live_s(after), codec.encode_session(after), after.revision, nonce, realm, handle, before.revision
        writes: list[Write] = [self._cluster.write("next_head", *values)]
        for item in put:
            encoded = codec.encode_item(item) if item.key else b""
            live_s = self._item_live_s(item, after)
            writes.append(self._cluster.write("put_item", realm, handle, item.key, encoded, live_s))
        writes += (self._cluster.write("drop_item", realm, handle, key) for key in remove)

        async def look() -> bool | None:
            rows = await self._cluster.decided_rows("head", realm, handle)
            if not rows or rows[0][1] in (None, before.revision):
                return False
            return True if rows[0][2] == nonce else None

        async with self._cluster.turn("session", realm, handle):
            return await self._cluster.decide(writes, look)

    async def remove(self, realm: str, handle: str) -> Session | None:
        """Removes a session, whatever its revision; the session that this was, None when it was not there."""

        async def look() -> bool:
            rows = await self._cluster.decided_rows("head", realm, handle)
            return not rows or rows[0][1] is None

        for _ in range(ATTEMPTS):
            row = await self._cluster.row("head", realm, handle)
            if row is None or row[0] is None:
                return None
            writes = [
                self._cluster.write("drop_head", realm, handle, row[1]),
                self._cluster.write("drop_items", realm, handle),
            ]
            async with self._cluster.turn("session", realm, handle):
                if await self._cluster.decide(writes, look):
                    return codec.decode_session(realm, handle, row[0])
        raise Contended("many changes of a session at once; it was not removed", retry_after_s=0.1)

    def _live_s(self, session: Session) -> int:
        return ttl_s(session.ends_us, self._cluster.now_us())

    def _item_live_s(self, item: Item, session: Session) -> int:
        return ttl_s(item.until_us or session.ends_us, self._cluster.now_us())
