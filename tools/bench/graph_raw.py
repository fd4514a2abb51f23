"""The embedded engine's own bulk write of the bytes that a graph takes: no sets, no names, no other process."""

import time
from itertools import islice
from pathlib import Path

import rocksdict

from libs.embedded.store import EmbeddedStore
from services.propagation.store.embedded_layout import FAMILIES, SCHEMA, VERSION

EDGE_FAMILIES = ("forward", "reverse", "arrivals")
_BATCH_ITEMS = 2_000


def write_s(data: Path, folder: Path) -> float:
    """Seconds to write every key and value of the edges in `data` to a new database, each batch synced."""
    options = rocksdict.Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_compression_type(rocksdict.DBCompressionType.lz4())
    database = rocksdict.Rdict(str(folder), options)
    took = 0.0
    with EmbeddedStore.open(data, schema=SCHEMA, version=VERSION, families=FAMILIES) as store:
        for name in EDGE_FAMILIES:
            items = store.family(name).scan()
            while page := list(islice(items, _BATCH_ITEMS)):
                began = time.monotonic()
                batch = rocksdict.WriteBatch(raw_mode=True)
                for key, value in page:
                    batch.put(name[:1].encode() + key, value)
                database.write(batch)
                database.flush_wal(True)
                took += time.monotonic() - began
    database.close()
    return took
