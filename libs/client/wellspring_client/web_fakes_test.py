"""A session service of a few lines behind a real gRPC server, and a browser that keeps its cookie."""

import asyncio
import collections
import itertools

from wellspring.session.v1 import session_pb2 as pb
from wellspring_client.fakes_test import Fail

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
        if self.fail is not None:
            raise self.fail
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
