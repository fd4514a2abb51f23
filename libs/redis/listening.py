"""Listening to a channel of a Redis server: messages are hints, for the server forgets them as it sends them.

Nothing is known of what was said while nobody listened: whoever listens has another way to learn of it.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, Final

from redis.exceptions import RedisError

from libs.redis.client import connection_to
from libs.redis.options import Options

_SILENCE_S: Final = 5.0
"""So long without a word, the server is asked whether it is there; as long again, and it is not."""
_AGAIN_S: Final = 1.0


async def messages(
    options: Options, channel: bytes, sleep: Callable[[float], Awaitable[None]]
) -> AsyncGenerator[bytes, None]:
    """What is said on a channel, for ever: a connection that is lost is made again after a second. One empty message
    stands for each time that listening began."""
    while True:
        connection = connection_to(options)
        try:
            await connection.connect()
            await connection.send_command("SUBSCRIBE", channel, check_health=False)
            async for message in _said(connection):
                yield message
        except (RedisError, OSError, EOFError, TimeoutError):
            await sleep(_AGAIN_S)
        finally:
            await connection.disconnect(nowait=True)


async def _said(connection: Any) -> AsyncIterator[bytes]:
    asked = False
    while True:
        try:
            async with asyncio.timeout(_SILENCE_S):
                answer = await connection.read_response(disconnect_on_error=False)
        except TimeoutError:
            if asked:
                raise
            asked = True
            await connection.send_command("PING", check_health=False)
            continue
        asked = False
        if answer[0] == b"message":
            yield answer[2]
        elif answer[0] == b"subscribe":
            yield b""
