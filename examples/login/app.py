"""An application with a login: pages for everybody, one for who is logged in, one for who proved it twice.

It knows people by name and password (scrypt); who is logged in, and that it stays true, is the session service's.
"""

import hashlib
import hmac
import html
from typing import Final
from urllib.parse import parse_qs

import wellspring_client
from wellspring_client.asgi import Message, Receive, Scope, Send, WebSession, session_of

_PEOPLE: Final = {
    # Name: salt, scrypt(password, salt, n=16384, r=8, p=1). Their passwords: "wonderland", "builder".
    "alice": ("616c696365", "c6ea7dd6dbaff485e26b592641229a52fb0528c842d37cab0e06be8d1fbd05d8"),
    "bob": ("626f62", "b4ee911063ebb6375b5b11aab4dcc0e19642ce2f8a6955636cb50dbc9933eca8"),
}
_FORM: Final = '<form method="post" action="/login"><input name="name"><input name="password" type="password"><button>'
_OUT: Final = '<form method="post" action="/logout"><button>log out</button></form>'


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """The application, in plain ASGI."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    status, body = await _page(scope["method"], scope["path"], session_of(scope), receive)
    headers = [(b"content-type", b"text/html; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    # What is made for one reader is for no cache; where the cookie changes, the middleware says no-store by itself.
    headers.append((b"cache-control", b"private, no-cache"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _page(method: str, path: str, session: WebSession, receive: Receive) -> tuple[int, bytes]:
    """What changes something is a POST: other sites' pages cannot send one with the cookie (SameSite=Lax)."""
    match method, path:
        case "POST", "/login":
            name = _known(await _form(receive))
            if not name:
                return 403, b"no such name and password"
            await session.login(name, level=1, methods=["pwd"], data={"name": name.encode(), "visits": b"0"})
            return 200, f"welcome, {html.escape(name)}".encode()
        case "POST", "/prove":
            if not session.logged_in:
                return 401, b"log in first"
            if _known(await _form(receive)) != (await session.data("name"))["name"].decode():
                return 403, b"no such name and password"
            await session.step_up(level=2, methods=["pwd", "pwd"])
            return 200, b"proved"
        case "POST", "/logout":
            await session.logout()
            return 200, b"bye"
        case "GET", "/":
            return 200, await _welcome(session)
        case "GET", "/settings":
            return (200, b"your settings") if session.level >= 2 else (401, b"prove once more that it is you")
    return 404, b"no such page"


async def _welcome(session: WebSession) -> bytes:
    if not session.logged_in:
        return f"hello, whoever you are {_FORM}log in</button></form>".encode()
    visits = (await session.update(wellspring_client.add_data("visits", 1))).counters["visits"]
    name = (await session.data("name"))["name"].decode()
    return f"hello, {html.escape(name)}, visit {visits} {_OUT}".encode()


def _known(form: dict[str, str]) -> str:
    """The name, if the password is its own; otherwise nothing, in the same time."""
    salt, expected = _PEOPLE.get(form.get("name", ""), ("00", "00" * 32))
    password = form.get("password", "").encode()[:1024]
    given = hashlib.scrypt(password, salt=bytes.fromhex(salt), n=16384, r=8, p=1, dklen=32)
    return form["name"] if hmac.compare_digest(given, bytes.fromhex(expected)) else ""


async def _form(receive: Receive) -> dict[str, str]:
    """The fields of a posted form; the last of each name."""
    body, more = b"", True
    while more and len(body) <= 1 << 16:
        message: Message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    return {name: values[-1] for name, values in parse_qs(body.decode("latin-1")).items()}
