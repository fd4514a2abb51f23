"""An engine whose writes never wait (its caller has gone) must not keep the event loop from saying so."""

import asyncio
from collections.abc import AsyncIterator

from libs.rpc.pipeline import _send_all


class Bottomless:
    """Takes every message at once."""

    def __init__(self) -> None:
        self.written = 0

    async def write(self, message: bytes) -> None:
        self.written += 1


async def for_ever(closed: list[bool]) -> AsyncIterator[bytes]:
    try:
        while True:
            yield b"x"
    finally:
        closed.append(True)


def test_a_stream_without_end_is_cancelled_while_its_writes_never_wait():
    async def main():
        closed: list[bool] = []
        context = Bottomless()
        sending = asyncio.ensure_future(_send_all(context, for_ever(closed)))
        await asyncio.sleep(0)
        sending.cancel()
        await asyncio.wait([sending])
        assert sending.cancelled() and closed == [True] and context.written < 1000

    asyncio.run(main())
