"""A renderer or a cache that costs next to nothing: a process that answers HTTP as cheaply as Python can.

GET  /render/<page>             a page of a fixed size that differs with each edit, with its one dependency
PURGE /<page>                   200
GET  /edit/<number>/<resource>  which edit the pages show from now on, and what they depend on
GET  /counts                    {"renders": …, "purges": …}, since the last edit

python -m tools.bench.endtoend_stub --port 8080 --body-bytes 2048
"""

import argparse
import asyncio
import json
import sys
from typing import cast

import httptools
import uvloop


class Site:
    """What all connections share."""

    def __init__(self, body_bytes: int) -> None:
        self.edit = b"0"
        self.renders = 0
        self.purges = 0
        self._filler = b"x" * body_bytes
        self._size = body_bytes
        self._head = b""

    def page(self, path: bytes) -> bytes:
        """The answer to a render."""
        self.renders += 1
        start = b"<p>%b of edit %b</p>" % (path, self.edit)
        return b"%b%b%b" % (self._head, start, self._filler[: self._size - len(start)])

    def control(self, path: bytes) -> bytes:
        """The answer to a question of the bench's."""
        if path.startswith(b"/edit/"):
            self.edit, _, dependency = path[6:].partition(b"/")
            self.renders = self.purges = 0
            self._head = (
                b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n"
                b"Wellspring-Dependencies: %b\r\n\r\n" % (self._size, dependency)
            )
        body = json.dumps({"renders": self.renders, "purges": self.purges}).encode()
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


class Connection(asyncio.Protocol):
    """One client; pipelined requests are answered together."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._parser = httptools.HttpRequestParser(self)
        self._path = b""
        self._out: list[bytes] = []
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport is none of asyncio's classes.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)
        if self._transport is not None:
            self._transport.write(b"".join(self._out))
        self._out.clear()

    def on_url(self, url: bytes) -> None:
        """From the parser."""
        self._path = url

    def on_message_complete(self) -> None:
        """From the parser."""
        if self._parser.get_method() == b"PURGE":
            self._site.purges += 1
            self._out.append(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        elif self._path.startswith(b"/render/"):
            self._out.append(self._site.page(self._path))
        else:
            self._out.append(self._site.control(self._path))


async def _serve(port: int, site: Site) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Connection(site), "127.0.0.1", port)
    async with server:
        await server.serve_forever()


def main() -> int:
    """Serves until it is killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--body-bytes", type=int, default=2048)
    asked = parser.parse_args()
    uvloop.run(_serve(asked.port, Site(asked.body_bytes)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
