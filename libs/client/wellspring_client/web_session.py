"""The session of one web request, as an application uses it: who it is, log in, step up, log out, data.

Whatever changes the token changes the cookie, so it comes before the response begins.
"""

import datetime
from collections.abc import Mapping, Sequence
from typing import Final

from wellspring.session.v1 import session_pb2 as pb
from wellspring_client.errors import SessionInvalid
from wellspring_client.known_sessions import Verified
from wellspring_client.session import Minted, Realm, Token
from wellspring_client.verifier import Verifier

_LEVEL: Final = 1


class WebSession:
    """Made by the middleware, one for each request; printing it shows no token."""

    def __init__(
        self, realm: Realm, verifier: Verifier, token: str | None, verified: Verified | None, address: str
    ) -> None:
        self._realm = realm
        self._verifier = verifier
        self._token = token
        self._verified = verified
        self._address = address
        self.sent = False
        """Whether the response has begun."""
        self.token_changed = False
        """Whether the cookie must be set, or cleared."""
        self.replaced: list[str] = []
        """Tokens that this request made worthless."""

    def __repr__(self) -> str:
        who = "nobody" if self._verified is None else "anonymous" if self.anonymous else "logged in"
        return f"WebSession({who})"

    @property
    def token(self) -> str | None:
        """What the bearer holds after this request: for the middleware, and for nothing that is written down."""
        return self._token

    @property
    def verified(self) -> Verified | None:
        """The session, or None: nobody."""
        return self._verified

    @property
    def logged_in(self) -> bool:
        """Whether somebody is."""
        return not self.anonymous

    @property
    def anonymous(self) -> bool:
        """Whether nobody is logged in, with or without a session."""
        return self._verified is None or self._verified.anonymous

    @property
    def subject(self) -> str:
        """Who, in this application's own form, the same in each of their sessions; empty when nobody is logged in."""
        return "" if self._verified is None else self._verified.subject

    @property
    def level(self) -> int:
        """How surely they were authenticated, 1..3; 0 when nobody is logged in."""
        return 0 if self._verified is None else self._verified.level

    @property
    def rotate_hint(self) -> bool:
        """Whether the token that came should be rotated."""
        return self._verified is not None and self._verified.rotate_hint and not self.token_changed

    async def login(
        self,
        subject: str,
        *,
        level: int = _LEVEL,
        methods: Sequence[str] = (),
        auth_time: datetime.datetime | None = None,
        data: Mapping[str, bytes] | None = None,
    ) -> None:
        """After ``subject`` has been authenticated: a new session and token, whatever came with the request; a session
        that was there, an anonymous one too, is over. Raises WellspringError; ValueError for an empty ``subject``.
        """
        if not subject:
            raise ValueError("a login is somebody's: subject is empty (begin_anonymous is for nobody's)")
        await self._create(subject, level, methods, auth_time, data)

    async def begin_anonymous(self, *, data: Mapping[str, bytes] | None = None) -> None:
        """A session of nobody, for a shopping basket; :meth:`become` makes it somebody's and keeps its data."""
        await self._create("", 0, (), None, data)

    async def become(
        self,
        subject: str,
        *,
        level: int = _LEVEL,
        methods: Sequence[str] = (),
        auth_time: datetime.datetime | None = None,
    ) -> None:
        """After ``subject`` has been authenticated: the anonymous session becomes theirs, with its data, under a new
        token. Raises SessionInvalid when there is none, FailedPrecondition when it is another's.
        """
        await self._authenticated(level, methods, auth_time, subject)

    async def step_up(
        self, *, level: int, methods: Sequence[str] = (), auth_time: datetime.datetime | None = None
    ) -> None:
        """After the same person has authenticated again, perhaps better: new times and a new token; the old one is
        refused at once. Raises SessionInvalid when nobody is logged in.
        """
        await self._authenticated(level, methods, auth_time, "")

    async def privilege_changed(self) -> None:
        """After their rights have changed: a new token; all others of the session are refused at once."""
        token = self._changeable()
        self._minted(await self._realm.rotate(token, privilege_changed=True))

    async def rotate(self) -> None:
        """A new token; the old one is good for a short grace. The middleware does it when the service says so."""
        token = self._changeable()
        self._minted(await self._realm.rotate(token))

    async def logout(self, *, everywhere: bool = False) -> None:
        """End this session; ``everywhere``: all others of the same person before. Harmless without a session."""
        self._unsent()
        if self._token is not None:
            if everywhere and self.logged_in:
                await self._realm.revoke(others_of=self._token, reason="logged out everywhere")
            await self._realm.revoke(self._token, reason="logged out")
            self._take(None, None)

    def over(self) -> None:
        """The service has just said that the session is over: forget it here."""
        if self._token is not None:
            self._take(None, None)

    async def data(self, *keys: str) -> dict[str, bytes]:
        """Values of the session's sealed data, by these keys or all; from the service. Raises SessionInvalid when
        there is no session.
        """
        answer = await self._realm.validate(self._held(), touch=False, data_keys=keys or ("*",), address=self._address)
        return {key: value.value for key, value in answer.data.items()}

    async def update(self, *operations: pb.DataOperation) -> pb.UpdateDataResponse:
        """Change the sealed data, all or nothing (``set_data`` and its siblings). Raises ConditionFailed,
        SessionInvalid.
        """
        return await self._realm.update_data(self._held(), *operations)

    async def check(self) -> None:
        """Whether the session is good still: for what lasts longer than a request, a WebSocket or a stream. Raises
        SessionInvalid (end it), Unavailable (not known now).
        """
        self._verified = await self._verifier.token(self._held(), address=self._address)

    async def _create(
        self,
        subject: str,
        level: int,
        methods: Sequence[str],
        auth_time: datetime.datetime | None,
        data: Mapping[str, bytes] | None,
    ) -> None:
        self._unsent()
        if self._token is not None:  # first: should the rest fail, then nobody is logged in
            await self._realm.revoke(self._token, reason="replaced by a login")
            self._take(None, None)
        minted = await self._realm.create(
            subject, level=level, methods=methods, auth_time=auth_time, data=data, address=self._address
        )
        self._minted(minted)

    async def _authenticated(
        self, level: int, methods: Sequence[str], auth_time: datetime.datetime | None, subject: str
    ) -> None:
        token = self._changeable()
        self._minted(
            await self._realm.reauthenticate(token, level=level, methods=methods, auth_time=auth_time, subject=subject)
        )

    def _minted(self, minted: Minted) -> None:
        self._take(minted.token, minted.session)

    def _take(self, token: Token | None, session: pb.Session | None) -> None:
        if self._token is not None:
            self._verifier.forget(self._token)
            self.replaced.append(self._token)
        self._token = None if token is None else token.value
        self._verified = None if session is None else Verified.of(session)
        self.token_changed = True

    def _held(self) -> str:
        if self._token is None:
            raise SessionInvalid("there is no session: log in first", reason="SESSION_INVALID")
        return self._token

    def _changeable(self) -> str:
        self._unsent()
        return self._held()

    def _unsent(self) -> None:
        if self.sent:
            raise RuntimeError("the response has begun: the cookie cannot change any more; log in or out before it")
