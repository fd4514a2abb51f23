"""Sessions of web applications: cookies, rotation, concurrent requests, and a service that is away."""

import asyncio
import logging

import pytest

import wellspring_client
from wellspring.session.v1 import session_pb2 as pb
from wellspring_client.asgi import Cookie, SessionMiddleware, session_of
from wellspring_client.fakes_test import Fail, Server
from wellspring_client.web_fakes_test import NAME, Browser, Service

SESSIONS = [pb.DESCRIPTOR.services_by_name["Sessions"]]


async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        return
    session = session_of(scope)
    assert "canary" not in repr(session) and "canary" not in str(session)
    match scope["path"]:
        case "/login":
            await session.login("alice", level=1, methods=["pwd"], data={"a": b"b"})
        case "/anonymous":
            await session.begin_anonymous()
        case "/become":
            await session.become("alice")
        case "/step":
            await session.step_up(level=2)
        case "/privilege":
            await session.privilege_changed()
        case "/logout":
            await session.logout()
        case "/everywhere":
            await session.logout(everywhere=True)
        case "/data":
            await session.update(wellspring_client.set_data("cart", b"pears"))
            assert await session.data("cart") == {"cart": b"pears"}
        case "/check":
            await session.check()
        case "/late":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            with pytest.raises(RuntimeError, match="response has begun"):
                await session.login("alice")
            await send({"type": "http.response.body", "body": b""})
            return
    headers = [(b"Cache-Control", b"public, max-age=60")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": f"{session.subject or 'nobody'} {session.level}".encode()})


def browsing(test, *, lifespan=True, **settings):
    """Runs a test against the middleware over a fake service, within ASGI's lifespan or without one."""

    async def main(service, address):
        app = SessionMiddleware(
            application, lambda: wellspring_client.aio.connect(session=address), realm="web", **settings
        )
        over = asyncio.Event()

        async def receive():
            await over.wait()
            return {"type": "lifespan.shutdown"}

        async with asyncio.TaskGroup() as group:
            if lifespan:
                group.create_task(app({"type": "lifespan"}, receive, None))
                async with asyncio.timeout(30):
                    while not (app._open and app._open[1].fresh):  # noqa: ASYNC110 - nothing tells of it
                        await asyncio.sleep(0.01)
            await test(app, service)
            over.set()

    service = Service()
    with Server(service.methods(), SESSIONS) as server:
        asyncio.run(main(service, server.address))


def test_log_in_use_step_up_log_out_and_the_cookie_s_attributes():
    async def test(app, service):
        browser = Browser(app)
        assert await browser.get("/") == (200, "nobody 0")
        assert not browser.values("set-cookie") and browser.values("Cache-Control") == ["public, max-age=60"]
        assert await browser.get("/login") == (200, "alice 1")
        (cookie,) = browser.values("set-cookie")
        token = browser.cookie
        assert cookie == f"__Host-session={token}; Path=/; Secure; HttpOnly; SameSite=Lax"
        assert browser.values("cache-control") == ["no-store"] and not browser.values("Cache-Control")
        before = service.calls["Validate"]
        for _ in range(5):
            assert await browser.get("/") == (200, "alice 1")
        assert not browser.values("set-cookie") and service.calls["Validate"] == before + 1
        assert await browser.get("/step") == (200, "alice 2") and browser.cookie != token
        assert token not in service.tokens
        await browser.get("/data")
        await browser.get("/check")
        stepped = browser.cookie
        assert await browser.get("/privilege") == (200, "alice 2") and browser.cookie != stepped
        last = browser.cookie
        assert await browser.get("/logout") == (200, "nobody 0")
        cleared = "__Host-session=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0"
        assert browser.values("set-cookie") == [cleared] and browser.cookie is None and last not in service.tokens
        assert await browser.get("/late") == (200, "")

    browsing(test)


def test_a_login_takes_no_token_over_that_was_there_before():
    async def test(app, service):
        browser, thief = Browser(app), Browser(app)
        await thief.get("/anonymous")
        browser.cookie = planted = thief.cookie
        assert await browser.get("/login") == (200, "alice 1")
        assert planted not in service.tokens and browser.cookie != planted and await thief.get("/") == (200, "nobody 0")
        await thief.get("/anonymous")
        browser.cookie = planted = thief.cookie
        assert await browser.get("/become") == (200, "alice 1")
        assert planted not in service.tokens and browser.cookie != planted and await thief.get("/") == (200, "nobody 0")

    browsing(test, lifespan=False)


def test_logout_everywhere_ends_the_others_too():
    async def test(app, service):
        one, two = Browser(app), Browser(app)
        await one.get("/login")
        await two.get("/login")
        await one.get("/everywhere")
        assert not service.tokens and await two.get("/") == (200, "nobody 0")

    browsing(test, lifespan=False)


def test_what_the_application_lets_pass_is_401_or_503():
    async def test(app, service):
        browser = Browser(app)
        service.fail = Fail(14, "", pushback_ms=-1)
        assert (await browser.get("/login"))[0] == 503 and not browser.values("set-cookie")
        service.fail = None
        await browser.get("/login")
        token = browser.cookie
        await browser.get("/")
        service.fail = Fail(14, "", pushback_ms=-1)
        assert (await browser.get("/data"))[0] == 503 and browser.cookie == token
        assert (await browser.get("/logout"))[0] == 503 and browser.cookie == token, "nobody was logged out"
        service.fail = None
        await browser.get("/")
        del service.tokens[token]  # ended a moment ago: the next page is still remembered, its data is not
        status, text = await browser.get("/data")
        assert (status, text) == (401, "the session is over; log in again\n")
        assert browser.cookie is None and browser.values("cache-control") == ["no-store"]
        assert (await browser.get("/data"))[0] == 401 and not browser.values("set-cookie")

    browsing(test)


@pytest.mark.parametrize("worthless", ["wss_web_x.y", "malformed"])
def test_a_worthless_token_is_nobody_s_and_its_cookie_is_cleared(worthless):
    async def test(app, service):
        browser = Browser(app)
        browser.cookie = worthless
        assert await browser.get("/") == (200, "nobody 0")
        assert browser.cookie is None and browser.values("cache-control") == ["no-store"]

    browsing(test)


@pytest.mark.parametrize(
    "header",
    [
        f"{NAME}=a; {NAME}=b",
        f"{NAME}=",
        f'{NAME}="wss_web_canary1.secret"',
        f"{NAME}=a b",
        f"{NAME}={'x' * 513}",
        f"{NAME}=\xff",
        f"{NAME}=x\r\nset-cookie: y",
    ],
)
def test_cookies_that_no_token_can_be_are_not_even_asked_for(header):
    async def test(app, service):
        browser = Browser(app)
        assert await browser.get("/", raw=header.encode("latin1")) == (200, "nobody 0")
        assert browser.values("set-cookie") and service.calls["Validate"] == 0

    browsing(test, lifespan=False)


def test_names_alike_are_other_cookies():
    async def test(app, service):
        browser = Browser(app)
        await browser.get("/login")
        for name in ("session", "__host-session", "x__Host-session", "__Host-session2"):
            assert await browser.get("/", raw=f"{name}={browser.cookie}".encode()) == (200, "nobody 0")
            assert not browser.values("set-cookie")

    browsing(test, lifespan=False)


def test_a_token_is_rotated_when_the_service_says_so_once_for_all_requests_at_once():
    async def test(app, service):
        browser = Browser(app)
        await browser.get("/login")
        old, service.hint, service.slow = browser.cookie, True, 0.2
        answers = await asyncio.gather(*(Browser(app).get("/", cookie=old) for _ in range(10)))
        assert set(answers) == {(200, "alice 1")} and service.calls["Rotate"] == 1
        assert len(service.tokens) == 2
        service.hint = False
        late = Browser(app)
        assert await late.get("/", cookie=old) == (200, "alice 1") and not late.values("set-cookie")
        # After the grace the old one is nobody's, and does not clear the cookie of the new one.
        del service.tokens[old]
        for app_request in range(2):
            await asyncio.sleep(0.6 * app_request)
            await late.get("/", cookie=old)
            assert not late.values("set-cookie")

    browsing(test, bound_s=0.5)


def test_a_rotation_that_fails_is_left_to_a_later_request():
    async def test(app, service):
        browser = Browser(app)
        await browser.get("/login")
        old, service.hint = browser.cookie, True
        rotate = Service.Rotate

        async def refuse(request, context):
            raise Fail(9, "NOT_NOW")

        server_methods["Sessions/Rotate"] = refuse
        assert await browser.get("/") == (200, "alice 1") and browser.cookie == old
        server_methods["Sessions/Rotate"] = rotate.__get__(service)
        assert await browser.get("/") == (200, "alice 1") and browser.cookie != old

    service = Service()
    with Server(service.methods(), SESSIONS) as server:
        server_methods = server.methods

        async def main():
            connect = lambda: wellspring_client.aio.connect(session=server.address)  # noqa: E731
            await test(SessionMiddleware(application, connect, realm="web"), service)

        asyncio.run(main())


def test_a_service_that_is_away_is_503_and_logs_nobody_out(caplog):
    async def test(app, service):
        browser = Browser(app)
        await browser.get("/login")
        token = browser.cookie
        for error, status in [
            (Fail(14, "", pushback_ms=-1), 503),
            (Fail(7, "CALLER_DENIED"), 503),
            (Fail(5, "REALM_NOT_FOUND"), 503),
            (Fail(13, "INTERNAL"), 503),
            (Fail(8, "GUESS_LIMIT", retry_s=7), 429),
        ]:
            service.fail = error
            got, text = await browser.get("/")
            assert got == status and "again" in text and browser.cookie == token
            assert not browser.values("set-cookie") and browser.values("cache-control") == ["no-store"]
        assert browser.values("retry-after") == ["7"]
        assert await browser.get("/", kind="websocket") == [{"type": "websocket.close", "code": 1013}]
        service.fail = None
        assert await browser.get("/") == (200, "alice 1")

    with caplog.at_level(logging.DEBUG):
        browsing(test, lifespan=False)
    assert "canary" not in caplog.text and "REALM_NOT_FOUND" in caplog.text


def test_a_websocket_has_the_session_of_its_cookie():
    async def test(app, service):
        browser = Browser(app)
        await browser.get("/login")
        sent = await browser.get("/", kind="websocket")
        assert sent[1]["body"] == b"alice 1"

    browsing(test)


def test_cookies_are_secure_unless_asked_by_name(caplog):
    for wrong in ({"same_site": "None"}, {"name": "a b"}, {"name": "__Host-x"}, {"name": ""}, {"name": "x" * 65}):
        with pytest.raises(ValueError):
            Cookie(**wrong)
    with pytest.raises(TypeError):
        Cookie(secure=False)
    with pytest.raises(ValueError):
        Cookie().setting("x; Domain=evil.example")
    assert Cookie(name="id", same_site="Strict").setting("t") == (
        b"__Host-id=t; Path=/; Secure; HttpOnly; SameSite=Strict"
    )

    async def test(app, service):
        browser = Browser(app, "session")
        await browser.get("/login")
        assert browser.values("set-cookie") == [f"session={browser.cookie}; Path=/; HttpOnly; SameSite=Lax"]
        assert await browser.get("/") == (200, "alice 1")

    browsing(test, lifespan=False, cookie=Cookie(insecure_for_development=True))
    assert "plain HTTP" in caplog.text


def test_without_the_middleware_there_is_no_session_to_ask_for():
    with pytest.raises(RuntimeError, match="SessionMiddleware"):
        session_of({"type": "http"})
