"""Sessions for an ASGI application, in three lines::

    import wellspring_client
    from wellspring_client.asgi import SessionMiddleware, session_of

    app = SessionMiddleware(app, lambda: wellspring_client.aio.connect(session="127.0.0.1:7102"), realm="web")

and in the application ``session_of(scope)`` is a :class:`~wellspring_client.web_session.WebSession`: who is logged in,
``await session.login("alice")``, ``step_up``, ``logout``.

With each request the token in the cookie is checked. No session: the application runs with nobody logged in, and a
cookie that is worth nothing is cleared. Not known now: 503, and nobody is logged out. The same where the application
lets an Unavailable pass; a SessionInvalid that it lets pass is 401. When the service wants the token rotated, the new
one goes out with the response; requests that are on their way with the old one are served during its grace. Where the
cookie is set or cleared, the response carries ``Cache-Control: no-store``.

CSRF: SameSite=Lax keeps the cookie out of what other sites' pages send, except plain navigation: so let GET and HEAD
change nothing. Where other hosts of the same site (``x.example.org`` beside ``www.example.org``) are not trusted,
check the Origin header of POSTs as well.
"""

import logging
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AsyncExitStack
from hashlib import sha256
from typing import Any, Final

from wellspring_client.aio import Client
from wellspring_client.errors import (
    DeadlineExceeded,
    InvalidRequest,
    QuotaExceeded,
    SessionInvalid,
    Unavailable,
    WellspringError,
)
from wellspring_client.session import Realm
from wellspring_client.verifier import BOUND_S, Verified, Verifier
from wellspring_client.web_cookie import Cookie
from wellspring_client.web_session import WebSession

__all__ = ["Cookie", "SessionMiddleware", "WebSession", "session_of"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_STATE: Final = "wellspring_session"
_REPLACED_S: Final = 60.0
_REPLACED_MOST: Final = 10_000
_TEXTS: Final = {
    401: b"the session is over; log in again\n",
    429: b"too many attempts; try again later\n",
    503: b"not known now; try again\n",
}
_log = logging.getLogger("wellspring_client.asgi")


def session_of(scope: Scope) -> WebSession:
    """The session of a request, from its scope (of Starlette: ``request.scope``). Raises RuntimeError where no
    middleware has been.
    """
    session = scope.get("state", {}).get(_STATE)
    if not isinstance(session, WebSession):
        raise RuntimeError("the request came past SessionMiddleware: wrap the application in it")
    return session


def address_of(scope: Scope) -> str:
    """The peer's address as the server says it. Behind a proxy let the server take it from the proxy's header."""
    client = scope.get("client")
    return str(client[0]) if client else ""


class SessionMiddleware:
    """``connect`` gives the client to the session service; it is called once, on the event loop of the requests.

    ``bound_s``: at most the realm's `revocation_bound`: how old knowledge of revocations may be; ``max_entries``
    sessions are remembered that long. ``cookie``: its name and attributes. ``address``: where a request comes from, for
    limits of guesses. The client is closed, and the feed of revocations followed, over ASGI's lifespan; with a server
    or application without one, each request is asked for at the service.

    Raises ValueError for settings out of bounds, when the first request or the lifespan comes.
    """

    def __init__(
        self,
        app: App,
        connect: Callable[[], Client],
        *,
        realm: str,
        cookie: Cookie | None = None,
        bound_s: float = BOUND_S,
        max_entries: int = 10_000,
        address: Callable[[Scope], str] = address_of,
    ) -> None:
        self._app = app
        self._connect = connect
        self._realm_name = realm
        self._cookie = cookie or Cookie()
        self._bound_s = bound_s
        self._max_entries = max_entries
        self._address = address
        self._open: tuple[Realm, Verifier] | None = None
        self._rotating: set[bytes] = set()
        self._replaced: OrderedDict[bytes, float] = OrderedDict()
        if self._cookie.insecure_for_development:
            _log.warning("session cookies go over plain HTTP: insecure_for_development is set")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI says."""
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        elif scope["type"] in ("http", "websocket"):
            await self._request(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(self._connect())
            realm, verifier = self._made(client)
            await stack.enter_async_context(verifier)
            self._open = realm, verifier
            try:
                await self._app(scope, receive, send)
            finally:
                self._open = None

    def _made(self, client: Client) -> tuple[Realm, Verifier]:
        realm = client.session.realm(self._realm_name)
        return realm, Verifier(realm, bound_s=self._bound_s, max_entries=self._max_entries)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._open is None:
            self._open = self._made(self._connect())
        realm, verifier = self._open
        token, present = self._cookie.read(scope["headers"])
        address = self._address(scope)
        verified = None
        if token is not None:
            try:
                verified = await _verified(verifier, token, address)
            except WellspringError as error:
                await _refuse(scope, receive, send, error)
                return
        session = WebSession(realm, verifier, token if verified else None, verified, address)
        stale = present and verified is None and not self._was_replaced(token)
        inner = {**scope, "state": {**scope.get("state", {}), _STATE: session}}
        if scope["type"] == "websocket":
            session.sent = True  # the cookie went with the request that led here
            await self._app(inner, receive, send)
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                await self._rotate(session)
                self._note_replaced(session.replaced)
                session.sent = True
                message = self._with_cookie(message, session, stale)
            await send(message)

        try:
            await self._app(inner, receive, sending)
        except (SessionInvalid, Unavailable, DeadlineExceeded) as error:
            if session.sent:
                raise
            await _interrupt(session, sending, error)

    async def _rotate(self, session: WebSession) -> None:
        """Just before the response goes out, so that a token which nobody receives is rare. One request does it for
        all that came with the token; it is left to a later one when the service cannot.
        """
        token = session.token
        if token is None or not session.rotate_hint:
            return
        key = _key(token)
        if key in self._rotating or self._was_replaced(token):
            return
        self._rotating.add(key)
        try:
            await session.rotate()
        except WellspringError as error:
            _log.info("a token was not rotated: %s", error.reason or type(error).__name__)
        finally:
            self._rotating.discard(key)

    def _with_cookie(self, message: Message, session: WebSession, stale: bool) -> Message:
        if not session.token_changed and not stale:
            return message
        value = self._cookie.setting(session.token) if session.token is not None else self._cookie.clearing()
        kept = [(name, text) for name, text in message.get("headers", ()) if name.lower() != b"cache-control"]
        return {**message, "headers": [*kept, (b"set-cookie", value), (b"cache-control", b"no-store")]}

    def _note_replaced(self, tokens: list[str]) -> None:
        now_s = time.monotonic()
        for token in tokens:
            self._replaced[_key(token)] = now_s
        while self._replaced:
            oldest = next(iter(self._replaced))
            if len(self._replaced) <= _REPLACED_MOST and now_s - self._replaced[oldest] <= _REPLACED_S:
                return
            del self._replaced[oldest]

    def _was_replaced(self, token: str | None) -> bool:
        """Whether its successor went out a moment ago: a late request with the old one must not clear the new one's
        cookie.
        """
        at_s = self._replaced.get(_key(token)) if token is not None else None
        return at_s is not None and time.monotonic() - at_s <= _REPLACED_S


async def _verified(verifier: Verifier, token: str, address: str) -> Verified | None:
    """The session of a token; None when there is none. Raises WellspringError when that is not known."""
    try:
        return await verifier.token(token, address=address)
    except SessionInvalid:
        return None
    except InvalidRequest as error:
        if error.reason != "TOKEN_MALFORMED":
            raise
        return None


async def _refuse(scope: Scope, receive: Receive, send: Send, error: WellspringError) -> None:
    """Neither in nor out: 503, or 429 after too many guesses; what is wrong goes to the log."""
    status = 429 if isinstance(error, QuotaExceeded) else 503
    _log.warning("a session could not be checked: %s (%s)", type(error).__name__, error.reason or error.message)
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1013})
        return
    await _say(send, status, error)


async def _interrupt(session: WebSession, send: Send, error: WellspringError) -> None:
    """The application asked something that is not known now, and left the answer to us; or the session, good when the
    request came, is over by now: 401, and ``send`` clears the cookie.
    """
    if isinstance(error, SessionInvalid):
        session.over()
    await _say(send, 401 if isinstance(error, SessionInvalid) else 503, error)


async def _say(send: Send, status: int, error: WellspringError) -> None:
    text = _TEXTS[status]
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(text)).encode()),
        (b"cache-control", b"no-store"),
    ]
    if status != 401:
        headers.append((b"retry-after", str(max(1, math.ceil(error.retry_after_s or 1))).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})


def _key(token: str) -> bytes:
    return sha256(token.encode()).digest()
