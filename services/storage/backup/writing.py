"""A namespace copied out of the store into a file."""

from collections.abc import Callable

from services.storage.backup.folder import Draft
from services.storage.backup.format import Encoder, End, Header
from services.storage.domain.namespace import Namespace
from services.storage.store.interface import Store

Told = Callable[[int], None]
"""Is told how many records are done."""


async def write_copy(
    store: Store, namespace: Namespace, draft: Draft, *, now_us: int, operation: str = "", told: Told | None = None
) -> End:
    """Writes all that readers of ``namespace`` see at this moment into ``draft``, its end included, and flushes it.
    ``told`` may raise to stop it."""
    encoder = Encoder()
    await draft.write(encoder.header(Header(namespace, now_us, operation)))
    copy = store.copy(namespace)
    try:
        async for part in copy:
            if isinstance(part, bytes):
                await draft.write(encoder.chunk(part))
                continue
            await draft.write(encoder.item(part))
            if told is not None and encoder.items % 64 == 0:
                told(encoder.records)
    finally:
        await copy.aclose()  # type: ignore[attr-defined]  # a Store's copy is an asynchronous generator
    data, end = encoder.end()
    await draft.write(data)
    await draft.flush()
    return end
