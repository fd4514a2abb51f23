"""The limits of the contract (``storage.proto``), in one place; sizes in bytes."""

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

MAX_RECORD_KEY: Final = 1024
MAX_ITEM_KEY: Final = 1024
MAX_VALUE: Final = MIB
MAX_MUTATIONS: Final = 1000
MAX_REQUEST: Final = 4 * MIB
MAX_BATCH: Final = 1000
MAX_BATCH_ITEMS: Final = 10_000
"""Mutations in one batch, over all its requests: what one server turn may hold others up for."""
MAX_DELETED: Final = 100_000
"""Items that one delete takes out: some tenths of a second in which nobody else is served."""
MAX_KEYS: Final = 1000
MAX_CONTENT_TYPE: Final = 128
MAX_ATTRIBUTES: Final = 16
MAX_ATTRIBUTES_SIZE: Final = 4 * KIB
MAX_SCAN_RANGES: Final = 100
MAX_SPLIT_PARTS: Final = 1000

DEFAULT_READ_BYTES: Final = MIB
MAX_READ_BYTES: Final = 4 * MIB
DEFAULT_READ_ITEMS: Final = 1000
MAX_READ_ITEMS: Final = 10_000
BATCH_READ_BYTES: Final = 8 * MIB
"""Bytes of one BatchGet answer, half of the default bound on a message."""

DEFAULT_SCAN_RECORDS: Final = 100
MAX_SCAN_RECORDS: Final = 1000
SCAN_BYTES: Final = MIB

DEFAULT_FEED_EVENTS: Final = 500
MAX_FEED_EVENTS: Final = 5000
FEED_ITEMS: Final = 100
"""Items that one change event names."""

MAX_UPLOAD: Final = 1024 * MIB
MAX_CHUNK: Final = MIB

MAX_TTL_US: Final = 20 * 365 * 86_400 * 1_000_000
"""Twenty years, Cassandra's own bound on a TTL."""
MAX_TIME_US: Final = 253_402_300_799_999_999
"""The last microsecond of the year 9999, as far as google.protobuf.Timestamp goes."""

NONCE_SIZE: Final = 16
VERSION_SIZE: Final = 16
MAX_RANGE_TOMBS: Final = 64
"""Range deletes that one LWW record remembers at once; one that covers an older one takes its place."""

MAX_PAGE: Final = 1000
DEFAULT_PAGE: Final = 100
