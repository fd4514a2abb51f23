"""The past of items: what an overwrite or a delete moved aside, for as long as the namespace's retention keeps it.

A row of ``history`` is: the version of the delete that removed the item (zeros after an overwrite) · when,
microseconds · the item's row as it was.
"""

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from services.storage.domain.namespace import Retention
from services.storage.store import layout, rows
from services.storage.store.families import Families, Operation

CHUNK_GRACE_US: Final = 3600 * 1_000_000
"""How long the chunks of a value that is gone stay, for downloads under way: the default deadline of a stream."""

_HEAD: Final = struct.Struct(">16sQ")
_ALIVE: Final = bytes(16)


class Past(NamedTuple):
    """An earlier version: its key in the family, the delete that ended it (b"" after an overwrite), when, its row."""

    key: bytes
    deleted_by: bytes
    retired_us: int
    row: bytes


class History:
    """Writes and reads ``history``, and releases the chunks of values that nothing keeps."""

    def __init__(self, families: Families) -> None:
        self._families = families

    def retire(
        self,
        operations: list[Operation],
        number: int,
        retention: Retention,
        place: bytes,
        item_key: bytes,
        row: bytes,
        deleted_by: bytes,
        now_us: int,
    ) -> None:
        """Keeps or releases ``row``, which lay at ``item_key`` of the record whose keys begin with ``place``."""
        until_us = self._kept_until(retention, row, deleted_by, now_us)
        if until_us <= now_us:
            self.release(operations, number, row, now_us)
            return
        item_place = place + layout.escaped(item_key)
        key = item_place + layout.inverted(rows.known(row).version)
        operations.append((self._families.history, key, _HEAD.pack(deleted_by or _ALIVE, now_us) + row))
        operations.append((self._families.due, layout.due_key(until_us, number, layout.VERSION, key[4:]), b""))
        if retention.max_versions and not deleted_by:
            self._trim(operations, number, item_place, retention.max_versions - 1, now_us)

    def release(self, operations: list[Operation], number: int, row: bytes, now_us: int) -> None:
        """Has the chunks of a row that is gone removed, after a while."""
        if rows.is_chunked(row):
            upload = rows.manifest_of(row).upload
            due = layout.due_key(now_us + CHUNK_GRACE_US, number, layout.UPLOAD, upload)
            operations.append((self._families.due, due, b""))

    def of_item(self, place: bytes, item_key: bytes, start: bytes = b"") -> Iterator[Past]:
        """The earlier versions of an item, newest first; ``start`` is an inverted version to begin at."""
        item_place = place + layout.escaped(item_key)
        for key, value in self._families.history.scan(item_place, start=item_place + start):
            yield _past(key, value)

    def of_record(self, place: bytes) -> Iterator[tuple[bytes, Past]]:
        """(item key, earlier version) of all items of a record, by item, newest first."""
        for key, value in self._families.history.scan(place):
            yield layout.unescaped(key, len(place))[0], _past(key, value)

    def get(self, key: bytes) -> Past | None:
        """The earlier version at ``key`` of the family."""
        value = self._families.history.get(key)
        return None if value is None else _past(key, value)

    @staticmethod
    def _kept_until(retention: Retention, row: bytes, deleted_by: bytes, now_us: int) -> int:
        """When nothing keeps the row any more; a time that is over when nothing does."""
        until_us = 0
        if retention.max_version_age_us:
            until_us = rows.write_time(row) + retention.max_version_age_us
        elif retention.max_versions:
            until_us = (1 << 63) - 1
        if deleted_by:
            until_us = max(until_us, now_us + retention.undelete_window_us)
        return until_us

    def _trim(self, operations: list[Operation], number: int, item_place: bytes, keep: int, now_us: int) -> None:
        """Removes the overwritten versions beyond the newest ``keep`` (the one just retired comes on top)."""
        for key, value in self._families.history.scan(item_place):
            past = _past(key, value)
            if past.deleted_by:
                continue
            keep -= 1
            if keep < 0:
                operations.append((self._families.history, key, None))
                self.release(operations, number, past.row, now_us)


def version_in(key: bytes) -> bytes:
    """The version in a key of the family."""
    return layout.inverted(key[-16:])


def _past(key: bytes, value: bytes) -> Past:
    deleted_by, retired_us = _HEAD.unpack_from(value)
    return Past(key, b"" if deleted_by == _ALIVE else deleted_by, retired_us, value[_HEAD.size :])
