"""A value out of a request's body: whole, in time, no larger than allowed, as it was sent."""

import asyncio

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from services.session.kask.problems import Problem

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


async def read(request: web.BaseRequest, limit_bytes: int, timeout_s: float) -> bytes:
    """The body. Raises Problem; what comes too late, too large or not whole closes the connection."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Problem(415, "The value is kept as it is sent: send it without a Content-Encoding", close=True)
    if (request.content_length or 0) > limit_bytes:
        raise too_large(limit_bytes)
    await _let_come(request)
    body = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > limit_bytes:
                    raise too_large(limit_bytes)
    except TimeoutError:
        raise Problem(408, "The body did not come in time", close=True) from None
    except (web.RequestPayloadError, HttpProcessingError, ConnectionError):
        raise Problem(400, "The body is not whole", close=True) from None
    if not body:
        raise Problem(400, "The body is empty; a value has one byte at least")
    return bytes(body)


def too_large(limit_bytes: int) -> Problem:
    """The problem of a value above the limit; what is left of it is not read."""
    return Problem(413, f"The value is too large: at most {limit_bytes} bytes are allowed here", close=True)


async def _let_come(request: web.BaseRequest) -> None:
    """Tells a client that waits to be told (RFC 9110, section 10.1.1) to send its body, now that it is wanted."""
    expected = request.headers.get("Expect")
    if expected is None:
        return
    if expected.lower() != "100-continue":
        raise Problem(417, "Nothing but 100-continue can be expected", close=True)
    await request.writer.write(_CONTINUE)
    request.writer.output_size = 0  # no part of the answer
