"""Sessions of web applications and gRPC servers: cookies, rotation, concurrent requests, and a service that is away."""

import asyncio
import collections
import itertools
import logging

import grpc
import pytest

import wellspring_client
from wellspring.session.v1 import session_pb2 as pb
from wellspring_client.asgi import Cookie, SessionMiddleware, session_of
from wellspring_client.errors import QuotaExceeded, SessionInvalid, Unavailable
from wellspring_client.fakes_test import Fail, Server
from wellspring_client.grpc_interceptor import SessionInterceptor, current_session
from wellspring_client.known_sessions import Verified

SESSIONS = [pb.DESCRIPTOR.services_by_name["Sessions"]]
NAME = "__Host-session"


class Service:
    """Sessions by token, as the contract says: enough of them for one process."""

    def __init__(self):
        self.tokens, self.hint, self.fail = {}, False, None
        self.numbers = itertools.count(1)
        self.calls = collections.Counter()
        self.slow = None

    def methods(self):
        names = ("Create", "Validate", "Rotate", "Reauthenticate", "Revoke", "UpdateData", "WatchRevocations")
        return {f"Sessions/{name}": getattr(self, name) for name in names}

    def mint(self, subject, level):
        token = f"wss_web_canary{next(self.numbers)}.secret"
        session = pb.Session(realm="web", handle=token, subject=subject, anonymous=not subject)
        session.assurance.level = level
        session.idle_expire_time.GetCurrentTime()
        session.idle_expire_time.seconds += 3600
        session.absolute_expire_time.CopyFrom(session.idle_expire_time)
        self.tokens[token] = session
        return {"token": pb.Secret(value=token.encode()), "session": session}

    def held(self, request):
        if self.fail is not None:
            raise self.fail
        token = request.token.value.decode()
        if token.startswith("malformed"):
            raise Fail(3, "TOKEN_MALFORMED")
        if token not in self.tokens:
            raise Fail(16, "SESSION_INVALID")
        return token, self.tokens[token]

    async def Create(self, request, context):
        self.calls["Create"] += 1
        return pb.CreateResponse(**self.mint(request.subject, request.assurance.level))

    async def Validate(self, request, context):
        self.calls["Validate"] += 1
        _, session = self.held(request)
        answer = pb.ValidateResponse(session=session, rotate_hint=self.hint)
        if request.data_keys:
            answer.data["cart"].value = b"pears"
        return answer

    async def Rotate(self, request, context):
        self.calls["Rotate"] += 1
        token, session = self.held(request)
        if self.slow is not None:
            await asyncio.sleep(self.slow)
        if request.reason == pb.RotateRequest.REASON_PRIVILEGE:
            del self.tokens[token]
        return pb.RotateResponse(**self.mint(session.subject, session.assurance.level))

    async def Reauthenticate(self, request, context):
        token, session = self.held(request)
        del self.tokens[token]
        return pb.ReauthenticateResponse(**self.mint(request.subject or session.subject, request.assurance.level))

    async def Revoke(self, request, context):
        if self.fail is not None:
            raise self.fail
        if request.WhichOneof("target") == "others_of_token":
            mine = self.tokens[request.others_of_token.value.decode()]
            self.tokens = {t: s for t, s in self.tokens.items() if s.subject != mine.subject or s is mine}
        else:
            self.tokens.pop(request.token.value.decode(), None)
        return pb.RevokeResponse(revoked=1)

    async def UpdateData(self, request, context):
        self.held(request)
        return pb.UpdateDataResponse(versions={"cart": 1})

    async def WatchRevocations(self, request, context):
        while True:
            answer = pb.WatchRevocationsResponse(resume_token="1")
            answer.heartbeats.add(origin="local", sequence=1).time.GetCurrentTime()
            yield answer
            await asyncio.sleep(0.1)


class Browser:
    """An in-process ASGI client that keeps its cookie as browsers do."""

    def __init__(self, app, name=NAME):
        self.app, self.name, self.cookie = app, name, None
        self.headers = []

    async def get(self, path, cookie=None, kind="http", raw=None):
        cookie = cookie or self.cookie
        header = raw or (f"a=b; {self.name}={cookie}; c=d".encode() if cookie else None)
        scope = {
            "type": kind,
            "path": path,
            "headers": [(b"cookie", header)] if header else [],
            "client": ("10.0.0.1", 5),
        }
        sent = []

        async def receive():
            return {"type": "websocket.connect" if kind == "websocket" else "http.request"}

        async def send(message):
            sent.append(message)

        await self.app(scope, receive, send)
        if kind == "websocket":
            return sent
        self.headers = sent[0]["headers"]
        for value in self.values("set-cookie"):
            given = value.partition(";")[0].partition("=")
            assert given[0] == self.name
            self.cookie = given[2] or None
        return sent[0]["status"], b"".join(part.get("body", b"") for part in sent[1:]).decode()

    def values(self, name):
        return [value.decode() for key, value in self.headers if key.decode() == name]


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
        assert browser.cookie != planted and await thief.get("/") == (200, "nobody 0")
        await thief.get("/anonymous")
        browser.cookie = planted = thief.cookie
        assert await browser.get("/become") == (200, "alice 1")
        assert browser.cookie != planted and await thief.get("/") == (200, "nobody 0")

    browsing(test, lifespan=False)


def test_logout_everywhere_ends_the_others_too():
    async def test(app, service):
        one, two = Browser(app), Browser(app)
        await one.get("/login")
        await two.get("/login")
        await one.get("/everywhere")
        assert not service.tokens and await two.get("/") == (200, "nobody 0")

    browsing(test, lifespan=False)


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


class Known:
    """Stands for a verifier."""

    async def check(self, credential, *, address=""):
        answers = {
            "good": Verified("web", "alice", 1, (), None, b""),
            "away": Unavailable("x"),
            "many": QuotaExceeded("x"),
        }
        found = answers.get(credential, SessionInvalid("x"))
        if isinstance(found, Exception):
            raise found
        assert address == "127.0.0.1"
        return found


def who():
    found = current_session()
    return found.subject.encode() if found else b"nobody"


async def unary(request, context):
    return who()


async def stream(request, context):
    yield who()
    await asyncio.sleep(0)
    yield who()


async def writing(request, context):
    await context.write(who())
    await context.write(who())


async def collecting(requests, context):
    return who() + b"".join([one async for one in requests])


async def both(requests, context):
    async for one in requests:
        yield who() + one


def calling(test, **settings):
    async def main():
        handlers = {
            "U": grpc.unary_unary_rpc_method_handler(unary),
            "S": grpc.unary_stream_rpc_method_handler(stream),
            "W": grpc.unary_stream_rpc_method_handler(writing),
            "C": grpc.stream_unary_rpc_method_handler(collecting),
            "B": grpc.stream_stream_rpc_method_handler(both),
        }
        server = grpc.aio.server(interceptors=[SessionInterceptor(Known(), **settings)])
        server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler("x.Y", handlers),
                grpc.method_handlers_generic_handler("x.Open", handlers),
            )
        )
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await test(channel)
        await server.stop(0)

    asyncio.run(main())


async def several(*parts):
    for one in parts:
        yield one


def bearer(text):
    return (("authorization", text),)


def test_every_kind_of_grpc_method_knows_who_calls():
    async def test(channel):
        good = bearer("Bearer good")
        assert await channel.unary_unary("/x.Y/U")(b"", metadata=good) == b"alice"
        for name in ("S", "W"):
            assert [one async for one in channel.unary_stream(f"/x.Y/{name}")(b"", metadata=good)] == [b"alice"] * 2
        assert await channel.stream_unary("/x.Y/C")(several(b"1", b"2"), metadata=good) == b"alice12"
        answers = channel.stream_stream("/x.Y/B")(several(b"1", b"2"), metadata=good)
        assert [one async for one in answers] == [b"alice1", b"alice2"]
        assert await channel.unary_unary("/x.Open/U")(b"") == b"nobody"

    calling(test, open_methods=["/x.Open/"])


@pytest.mark.parametrize(
    ("metadata", "code"),
    [
        ((), grpc.StatusCode.UNAUTHENTICATED),
        (bearer("good"), grpc.StatusCode.UNAUTHENTICATED),
        (bearer("basic good"), grpc.StatusCode.UNAUTHENTICATED),
        (bearer("bearer good") * 2, grpc.StatusCode.UNAUTHENTICATED),
        (bearer("bearer canary"), grpc.StatusCode.UNAUTHENTICATED),
        (bearer("bearer "), grpc.StatusCode.UNAUTHENTICATED),
        (bearer("bearer away"), grpc.StatusCode.UNAVAILABLE),
        (bearer("bearer many"), grpc.StatusCode.RESOURCE_EXHAUSTED),
    ],
)
def test_calls_of_nobody_are_refused_in_every_kind_of_method(metadata, code):
    async def test(channel):
        calls = [
            channel.unary_unary("/x.Y/U")(b"", metadata=metadata),
            channel.stream_unary("/x.Y/C")(several(b"1"), metadata=metadata),
            anext(aiter(channel.unary_stream("/x.Y/S")(b"", metadata=metadata))),
            anext(aiter(channel.stream_stream("/x.Y/B")(several(b"1"), metadata=metadata))),
        ]
        for call in calls:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() is code and "canary" not in str(caught.value)

    calling(test)


def test_a_session_that_is_not_required_may_be_missing_but_not_worthless():
    async def test(channel):
        assert await channel.unary_unary("/x.Y/U")(b"") == b"nobody"
        with pytest.raises(grpc.aio.AioRpcError):
            await channel.unary_unary("/x.Y/U")(b"", metadata=bearer("bearer bad"))

    calling(test, required=False)
