"""A session service in memory, on the clock of the test: what verifiers ask and follow, with a link that can be cut."""

import asyncio
import dataclasses
import itertools
from hashlib import sha256

from wellspring.session.v1 import session_pb2 as pb
from wellspring_client.errors import DeadlineExceeded, ResumeTokenExpired, SessionInvalid, Unavailable


@dataclasses.dataclass
class Held:
    handle: str
    subject: str
    live: bool = True
    idle_s: float = 3600.0


class Origin:
    """Keeps ``kept`` revocations; ``delay_s`` is how long an answer, already decided, is on its way."""

    def __init__(self, clock, kept=1000):
        self.clock, self.kept = clock, kept
        self.sessions, self.log = {}, []
        self.feed_cut = self.calls_cut = self.feed_hangs = False
        self.delay_s = self.feed_delay_s = self.behind_s = 0.0
        self.validated = self.watched = 0
        self.resumed = []
        self._numbers = itertools.count(1)

    def create(self, subject="alice", idle_s=3600.0):
        number = next(self._numbers)
        token = f"wss_web_{number}"
        self.sessions[token] = Held(f"h{number}", subject, idle_s=idle_s)
        return token

    def stamp(self):
        return int((self.clock.time_ns() / 1e9 - self.behind_s) * 1e6)

    def revoke(self, token=None, subject=None):
        one = pb.WatchRevocationsResponse.Revocation()
        one.time.FromMicroseconds(self.stamp())
        for key, held in self.sessions.items():
            if (token is None or key == token) and (subject is None or held.subject == subject):
                held.live = False
        if token is not None:
            one.handle_hash = sha256(self.sessions[token].handle.encode()).digest()
        elif subject is not None:
            one.subject = subject
        else:
            one.whole_realm = True
        self.log.append(one)

    async def validate(self, token, *, touch=True, address="", timeout=None):
        self.validated += 1
        if self.calls_cut:
            # As the SDK says it, one way or the other.
            raise Unavailable("nobody answers") if self.validated % 2 else DeadlineExceeded("no answer in time")
        held = self.sessions.get(token)
        if held is None or not held.live:
            raise SessionInvalid("no live session", reason="SESSION_INVALID")
        answer = pb.ValidateResponse()
        session = answer.session
        session.realm, session.handle, session.subject = "web", held.handle, held.subject
        session.assurance.level = 1
        now_us = self.clock.time_ns() // 1000
        session.idle_expire_time.FromMicroseconds(now_us + int(held.idle_s * 1e6))
        session.absolute_expire_time.FromMicroseconds(now_us + 7200 * 10**6)
        await asyncio.sleep(self.delay_s)
        return answer

    async def watch_revocations(self, *, resume_token=""):
        self.watched += 1
        self.resumed.append(resume_token)
        if self.feed_cut:
            raise Unavailable("nobody answers")
        at = int(resume_token) if resume_token else len(self.log)
        while True:
            if self.feed_cut:
                raise Unavailable("the connection broke")
            if self.feed_hangs:
                await asyncio.sleep(1e6)
            if at > len(self.log) or at < len(self.log) - self.kept:
                raise ResumeTokenExpired("too long ago", reason="RESUME_TOKEN_EXPIRED")
            answer = pb.WatchRevocationsResponse(revocations=self.log[at:], resume_token=str(len(self.log)))
            at = len(self.log)
            beat = answer.heartbeats.add(origin="local", sequence=at)
            beat.time.FromMicroseconds(self.stamp())
            await asyncio.sleep(self.feed_delay_s)
            yield answer
            await asyncio.sleep(0.1)
