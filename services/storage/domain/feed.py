"""What the change feed says of one mutation, and the id of the change that it is."""

import hashlib
from typing import NamedTuple


class ItemChange(NamedTuple):
    """One item that a mutation wrote or removed."""

    key: bytes
    deleted: bool
    content_type: str
    size: int


class ChangeEvent(NamedTuple):
    """One mutation of one record. ``items`` are the first 100 of ``item_count``; ``time_us`` the server's clock then.

    ``created``: the record came into being with it; ``deleted``: it has no item left. ``in_doubt``: it may or may not
    have taken effect; its version is then its own and no item's.
    """

    record: bytes
    version: bytes
    items: tuple[ItemChange, ...]
    item_count: int
    created: bool
    deleted: bool
    time_us: int
    annotations: tuple[tuple[str, str], ...]
    in_doubt: bool = False


EXPIRED_ANNOTATION = ("wellspring.cause", "expired")
"""Marks the event of items that ended by their expiry, which no caller wrote."""


def change_id(namespace: str, version: bytes, record: bytes) -> str:
    """The id of a change, for propagation: ``storage/<namespace>/<version>/<digest of the record key>``.

    The same for each reading of the feed and in the receipt; no record's text is in it.
    """
    return f"storage/{namespace}/{version.hex()}/{hashlib.blake2b(record, digest_size=8).hexdigest()}"
