"""A cache that acknowledges every request at once, as cheaply as Python can: how fast a purger is when nothing holds
it back. Prints its port, serves until it is killed."""

import asyncio
from typing import cast

import httptools
import uvloop

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Stub(asyncio.Protocol):
    """One connection; the answers to what came together go together."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = cast(asyncio.Transport, transport)
        self._parser = httptools.HttpRequestParser(self)
        self._complete = 0

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        self._complete = 0
        self._parser.feed_data(data)
        self._transport.write(ANSWER * self._complete)

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self._complete += 1


async def main() -> None:
    """Serves."""
    server = await asyncio.get_running_loop().create_server(Stub, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
