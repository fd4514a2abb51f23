"""Documents: a few small rows of the family ``meta``, by kind and name: ``d`` · kind · 0 · name."""

from typing import Final

from services.storage.store.families import Families
from services.storage.store.kv import Kv

_META_DOCUMENT: Final = b"d"


class Documents:
    """Reads and writes them."""

    def __init__(self, kv: Kv, families: Families) -> None:
        self._kv = kv
        self._families = families

    def get(self, kind: str, name: str) -> bytes | None:
        """As ``Store.document``."""
        return self._families.meta.get(_prefix(kind) + name.encode())

    def all(self, kind: str) -> list[tuple[str, bytes]]:
        """As ``Store.documents``."""
        prefix = _prefix(kind)
        return [(key[len(prefix) :].decode(), body) for key, body in self._families.meta.scan(prefix)]

    async def put(self, kind: str, name: str, body: bytes | None) -> None:
        """As ``Store.put_document``."""
        batch = self._kv.batch()
        key = _prefix(kind) + name.encode()
        if body is None:
            batch.delete(self._families.meta, key)
        else:
            batch.put(self._families.meta, key, body)
        batch.frees = True  # the end of an operation is told on a full disk too
        await self._kv.submit(batch)


def _prefix(kind: str) -> bytes:
    return _META_DOCUMENT + kind.encode() + b"\0"
