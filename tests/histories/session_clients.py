"""Clients that log the same few subjects in and out all at once, and note what they did.

In their realm a subject has one session at most, and another login is refused; each rotation is one after which only
the child is good. So a subject is a register that holds nothing or a token: Create is a put if nothing is there, Rotate
one if the token is there, Validate asks whether it is, Revoke is a delete if a token of its session is there. Answers
say no more than that.

On a cluster they say less. Of several who log out at once perhaps none is told that it was he. And a Validate that asks
for no more than that reads the session alone: while a revocation is not answered yet, it counts for one and then not
for another. Those here ask for an assertion as well, which is made after a look at all that revokes.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
import uuid
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Final

import grpc
from google.rpc import status_pb2  # type: ignore[import-untyped]

from libs.rpc.errors import DETAILS_KEY
from services.storage.rig import told
from tests.histories.clients import DEADLINE_S, LOST, RETRY_S
from tests.histories.recording import History, Operation, now
from wellspring.session.v1 import session_pb2 as pb
from wellspring.session.v1 import session_pb2_grpc

REALM: Final = "web"
SETTING: Final = "realms=[{name: web, max_sessions_per_subject: 1, limit_policy: reject, rotation_grace: 10m}]"
"""So long a token that was rotated away is refused, and ends nothing."""
CHOICES: Final = {"validate": 46, "create": 18, "rotate": 16, "revoke": 12, "revoke all": 8}
"""What a client does next, and how often of a hundred."""
REMEMBERED: Final = 4
"""So many tokens of a subject, the newest last: what was rotated away or revoked must be refused."""


class Tokens:
    """Those that somebody was given, by subject."""

    def __init__(self) -> None:
        self._known: dict[str, list[bytes]] = {}

    def add(self, subject: str, token: bytes) -> None:
        known = self._known.setdefault(subject, [])
        known.append(token)
        del known[:-REMEMBERED]

    def one(self, subject: str, chance: random.Random) -> bytes | None:
        """Mostly the newest."""
        known = self._known.get(subject)
        if not known:
            return None
        return known[-1] if chance.random() < 0.7 else chance.choice(known)


class SessionClient:
    """One of them; all share ``tokens``. ``subjects`` may change while it works. ``cluster``: see above."""

    def __init__(
        self,
        number: int,
        to: grpc.aio.Channel,
        history: History,
        subjects: Sequence[str],
        tokens: Tokens,
        chance: random.Random,
        *,
        cluster: bool = False,
    ) -> None:
        self._cluster = cluster
        self._number = number
        self._stub: Any = session_pb2_grpc.SessionsStub(to)
        self._history = history
        self._subjects = subjects
        self._tokens = tokens
        self._chance = chance
        self._lost = 0

    async def run(self, stopping: asyncio.Event) -> None:
        """One call after the other, until ``stopping``."""
        while not stopping.is_set():
            subject = self._chance.choice(self._subjects)
            choice = self._chance.choices(list(CHOICES), list(CHOICES.values()))[0]
            token = self._tokens.one(subject, self._chance)
            if choice == "create" or (token is None and choice != "revoke all"):
                await self._create(subject)
            elif choice == "revoke all":
                await self._revoke_all(subject)
            elif token is not None and choice == "validate":
                await self.validate(subject, token)
            elif token is not None and choice == "rotate":
                await self._rotate(subject, token)
            elif token is not None:
                await self._revoke(subject, token)

    async def validate(self, subject: str, token: bytes) -> None:
        """Asks whether it is good; without an answer that tells nothing."""
        asked = Operation(self._number, subject, "get", now(), if_etag=_name(token), untold=True)
        audience = "histories" if self._cluster else ""
        request = pb.ValidateRequest(realm=REALM, token=pb.Secret(value=token), assertion_audience=audience)
        answer = await self._ask(self._stub.Validate, request, asked, lost=None)
        if answer is not None:
            self._note(asked)

    async def _create(self, subject: str) -> None:
        asked = Operation(self._number, subject, "put", now(), if_absent=True)
        request = pb.CreateRequest(
            realm=REALM, subject=subject, assurance=pb.Assurance(level=1), request_id=str(uuid.uuid4())
        )
        answer = await self._ask(
            self._stub.Create, request, asked, lost=dataclasses.replace(asked, value=self._unknown())
        )
        if answer is not None:
            self._given(asked, answer.token.value)

    async def _rotate(self, subject: str, token: bytes) -> None:
        asked = Operation(self._number, subject, "put", now(), if_etag=_name(token), family=_session(token))
        request = pb.RotateRequest(
            realm=REALM,
            token=pb.Secret(value=token),
            reason=pb.RotateRequest.REASON_PRIVILEGE,
            request_id=str(uuid.uuid4()),
        )
        answer = await self._ask(
            self._stub.Rotate, request, asked, lost=dataclasses.replace(asked, value=self._unknown())
        )
        if answer is not None:
            self._given(asked, answer.token.value)

    async def _revoke(self, subject: str, token: bytes) -> None:
        asked = Operation(self._number, subject, "delete", now(), if_family=_session(token), untold=True)
        request = pb.RevokeRequest(realm=REALM, token=pb.Secret(value=token))
        answer = await self._ask(self._stub.Revoke, request, asked, lost=asked)
        if answer is not None:
            if self._cluster:
                self._note(dataclasses.replace(asked, either=True))
            else:
                self._note(asked, "ok" if answer.revoked else "refused")
            # At once: a server that says so too early is caught here.
            await self.validate(subject, token)

    async def _revoke_all(self, subject: str) -> None:
        asked = Operation(self._number, subject, "delete", now(), untold=True)
        answer = await self._ask(self._stub.Revoke, pb.RevokeRequest(realm=REALM, subject=subject), asked, lost=asked)
        if answer is not None:
            self._note(asked)
            token = self._tokens.one(subject, self._chance)
            if token is not None:
                await self.validate(subject, token)

    async def _ask(self, method: Any, request: Any, asked: Operation, lost: Operation | None) -> Any:
        """The answer; None after a refusal, which is noted, and when there was none, which is noted as ``lost``."""
        try:
            return await method(request, timeout=DEADLINE_S)
        except grpc.aio.AioRpcError as error:
            if _refusal(error) in ("SESSION_INVALID", "SESSION_LIMIT"):
                value = self._unknown() if asked.op == "put" else ""
                self._note(dataclasses.replace(asked, untold=True, value=value), "refused")
                return None
            if error.code() not in LOST:
                raise
            self._history.lose()
            if lost is not None:
                self._history.add(dataclasses.replace(lost, outcome="unknown"))
            await asyncio.sleep(RETRY_S)
            return None

    def _given(self, asked: Operation, token: bytes) -> None:
        self._note(dataclasses.replace(asked, value=_name(token), etag=_name(token), family=_session(token)))
        self._tokens.add(asked.record, token)

    def _note(self, asked: Operation, outcome: str = "ok") -> None:
        self._history.add(dataclasses.replace(asked, outcome=outcome, returned=now()))

    def _unknown(self) -> str:
        self._lost += 1
        return f"nobody's {self._number}/{self._lost}"


def _name(token: bytes) -> str:
    return sha256(token).hexdigest()[:16]


def _session(token: bytes) -> str:
    """What all tokens of a session have in common."""
    return _name(token.partition(b".")[0])


def _refusal(error: grpc.aio.AioRpcError) -> str:
    """The reason of a refusal; empty for what is none."""
    trailers: Any = error.trailing_metadata() or ()
    details = dict(trailers).get(DETAILS_KEY)
    return "" if details is None else told(error.code(), status_pb2.Status.FromString(details)).reason
