"""The backend on the embedded store: one data directory, held by one process."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from libs.embedded.settings import Compression, FamilySpec, Settings
from libs.embedded.store import EmbeddedStore
from services.storage.store import layout
from services.storage.store.local import LocalOptions, LocalStore

_LARGE: Final = 32 * 1024
"""Values from this size on live beside the tree, so that compaction need not copy them."""

_SPECS: Final = (
    FamilySpec("records"),
    FamilySpec("items", large_values_bytes=_LARGE),
    FamilySpec("tombs"),
    FamilySpec("tokens", compression=Compression.NONE),
    FamilySpec("feed", bloom_bits=0),
    FamilySpec("due", bloom_bits=0),
    FamilySpec("history", large_values_bytes=_LARGE),
    FamilySpec("samples", bloom_bits=0),
    FamilySpec("chunks", compression=Compression.NONE, large_values_bytes=_LARGE),
    FamilySpec("meta"),
)
assert tuple(spec.name for spec in _SPECS) == layout.FAMILIES


def open_store(
    path: str | Path,
    clock_us: Callable[[], int],
    options: LocalOptions | None = None,
    settings: Settings | None = None,
) -> LocalStore:
    """Opens or creates the data directory ``path``. Raises what ``EmbeddedStore.open`` raises; each error says what is
    there and what to do."""
    kv = EmbeddedStore.open(
        path,
        schema="storage",
        version=layout.FORMAT_VERSION,
        oldest=layout.OLDEST_FORMAT,
        families=_SPECS,
        settings=settings,
    )
    try:
        return LocalStore(kv, clock_us, options, gather=True)
    except BaseException:
        kv.close()
        raise
