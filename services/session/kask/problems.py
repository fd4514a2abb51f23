"""Failures as RFC 9457 problem documents, in Kask's words where Kask has them.

Kask's `instance` is the path, and so the session's key. Here it is a name made for this one failure, which stands in
the log as well; no problem repeats anything of its request.
"""

import json
import uuid
from http import HTTPStatus
from typing import Final

from aiohttp import web

TYPE: Final = "application/problem+json"
HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Server": "wellspring-session"}
"""Of every answer."""

_KASK: Final = "https://www.mediawiki.org/wiki/Kask/errors/"
_WORDS: Final = {
    400: ("bad_request", "Bad request", "The request was incorrect or malformed"),
    401: ("not_authorized", "Not authorized", "Unable to authorize request"),
    403: ("not_authorized", "Not authorized", "Unable to authorize request"),
    404: ("not_found", "Not found", "The value you requested was not found"),
    500: ("server_error", "Internal server error", "The server encountered an error with your request"),
}
"""By status: the type's last part, title and detail, as Kask's http.go has them."""


class Problem(Exception):
    """A request that fails: `detail` says what is allowed, and nothing of what was sent. `close` ends the connection,
    for what follows on it may be the rest of this request."""

    def __init__(
        self, status: int, detail: str = "", *, headers: dict[str, str] | None = None, close: bool = False
    ) -> None:
        super().__init__(status)
        self.status = status
        self.detail = detail
        self.headers = headers or {}
        self.close = close


def answer(problem: Problem) -> tuple[web.Response, str]:
    """The answer, and its `instance`, for the log."""
    instance = uuid.uuid4().urn
    name, title, detail = _WORDS.get(problem.status, ("", HTTPStatus(problem.status).phrase, ""))
    body = {
        "type": _KASK + name if name else "about:blank",
        "title": title,
        "status": problem.status,
        "detail": problem.detail or detail,
        "instance": instance,
    }
    response = web.Response(
        status=problem.status,
        body=json.dumps(body).encode(),
        content_type=TYPE,
        headers={**HEADERS, **problem.headers},
    )
    if problem.close:
        response.force_close()
    return response, instance
