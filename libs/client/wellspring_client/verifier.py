"""Sessions checked at the application, mostly without a call, and never on knowledge that is too old::

    client = wellspring_client.aio.connect(session="127.0.0.1:7102")
    async with client, Verifier(client.session.realm("web"), bound_s=5) as verifier:
        who = await verifier.check(token)

A token is asked for at the service once in ``bound_s``; a revocation cuts that short as soon as the feed tells of it,
a fraction of a second after it was made. When the feed has not been heard for ``bound_s``, nothing remembered is
answered any more: a token is asked for at the service itself, an assertion is refused, both with Unavailable when that
cannot be. Unavailable never means that the session is over, and must not log anybody out or in.

What the feed does not tell is known after ``bound_s`` at the latest: a timeout, a token that a rotation replaced.
"""

import asyncio
import datetime
import time
from collections.abc import Callable
from hashlib import sha256
from types import TracebackType
from typing import TYPE_CHECKING, Final, Protocol, Self

from wellspring.session.v1 import session_pb2 as pb
from wellspring_client.errors import AssertionInvalid, DeadlineExceeded, SessionInvalid, Unavailable
from wellspring_client.known_sessions import Cache, InFlight, Revoked, Verified
from wellspring_client.revocation_feed import Feed, Watched

if TYPE_CHECKING:  # the package cryptography is asked for where assertions are checked only
    from wellspring_client.assertions import Assertions

__all__ = ["Source", "Verified", "Verifier"]

BOUND_S: Final = 5.0
"""The default of a realm's `revocation_bound`."""
_TOKEN_PREFIX: Final = "wss_"  # noqa: S105 - how every token begins
_ASSERTION_S: Final = 60.0
_ATTEMPTS: Final = 3


class Source(Watched, Protocol):
    """A realm of the asynchronous client, or what stands for it."""

    async def validate(self, token: str, *, touch: bool, address: str, timeout: float | None) -> pb.ValidateResponse:
        """Raises SessionInvalid, InvalidRequest, Unavailable."""
        ...


class Verifier:
    """Use it as a context manager: the feed is followed meanwhile. Outside, every token is asked for at the service.

    ``realm``: ``client.session.realm(name)``. ``bound_s``: how old knowledge of revocations may be, 0.5..300: at most
    the realm's `revocation_bound`. ``skew_s``: how far this clock and the service's may be apart. ``assertions``: how
    assertions are checked, if they are. ``max_entries`` bounds the memory: sessions remembered, and revocations.
    ``timeout_s`` of a question, at most ``bound_s``. Raises ValueError for settings out of bounds.
    """

    def __init__(
        self,
        realm: Source,
        *,
        bound_s: float = BOUND_S,
        skew_s: float = 1.0,
        assertions: "Assertions | None" = None,
        max_entries: int = 10_000,
        timeout_s: float = 2.0,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        if not 0.5 <= bound_s <= 300:
            raise ValueError(f"bound_s is 0.5 to 300 seconds: got {bound_s}")
        if not 0 <= skew_s <= 60:
            raise ValueError(f"skew_s is 0 to 60 seconds: got {skew_s}")
        if max_entries < 1 or not timeout_s > 0:
            raise ValueError("max_entries is at least 1, and timeout_s above 0")
        self._realm = realm
        self._bound_s = bound_s
        self._timeout_s = min(timeout_s, bound_s)
        self._assertions = assertions
        self._wall_ns = wall_ns
        self._cache = Cache(max_entries)
        # An assertion issued just before is good for a minute, by clocks that are apart one way and the other.
        self._revoked = Revoked(_ASSERTION_S + 2 * skew_s + 2 * bound_s + 60, max_entries)
        self._asked: set[InFlight] = set()
        self._feed = Feed(
            realm, bound_s=bound_s, skew_s=skew_s, on_revoked=self._revoke, on_reset=self._forget, wall_ns=wall_ns
        )
        self._group: asyncio.TaskGroup | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def fresh(self) -> bool:
        """Whether what is remembered may be answered now; ``trouble`` says why not."""
        return self._feed.fresh

    @property
    def trouble(self) -> str:
        """Why the feed is not fresh, in words; empty when it is."""
        return "" if self._feed.fresh else self._feed.trouble

    @property
    def entries(self) -> int:
        """How many sessions are remembered now."""
        return len(self._cache)

    async def __aenter__(self) -> Self:
        self._group = await asyncio.TaskGroup().__aenter__()
        self._task = self._group.create_task(self._feed.run(), name="feed of revocations")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._group is not None and self._task is not None:
            self._task.cancel()
            await self._group.__aexit__(None, None, None)
        self._group = self._task = None
        self._forget()

    async def check(self, credential: str, *, address: str = "") -> Verified:
        """A token or an assertion, whichever it is. Raises as :meth:`token` and :meth:`assertion` do."""
        if self._assertions is not None and not credential.startswith(_TOKEN_PREFIX):
            return await self.assertion(credential)
        return await self.token(credential, address=address)

    async def token(self, token: str, *, touch: bool = True, address: str = "") -> Verified:
        """The session of a token; asking the service counts as activity when ``touch``. ``address``: the bearer's, for
        limits of guesses.

        Raises SessionInvalid (log in again), InvalidRequest (no token at all), Unavailable (not known now).
        """
        key = sha256(token.encode(errors="surrogatepass")).digest()
        if self._feed.fresh:
            known = self._cache.get(key, asyncio.get_running_loop().time())
            if known is not None:
                return known
        for _ in range(_ATTEMPTS):
            found = await self._ask(key, token, touch, address)
            if found is not None:
                return found
        raise Unavailable("sessions are being revoked faster than they can be asked for; try again")

    async def assertion(self, assertion: str) -> Verified:
        """The session of an assertion, without a call. Raises AssertionInvalid (present another one), Unavailable
        (keys or revocations are not known now), ValueError when no assertions are checked here.

        All of a subject revoked ends its assertions at once where the audience is the identity that this process calls
        the service with; otherwise with their own end, a minute later at most.
        """
        if self._assertions is None:
            raise ValueError("this verifier checks no assertions: give it assertions=")
        said = await self._assertions.verify(assertion)
        if not self._feed.fresh:
            raise self._feed.refuse()
        if self._revoked.ended(said.handle_hash, said.subject, said.issued_s):
            raise AssertionInvalid("the session of the assertion was revoked")
        if said.issued_s <= max(self._revoked.floor_s, self._feed.since_s or 0):
            raise Unavailable(
                "the assertion is older than what is known of revocations here: present a newer one",
                reason="REVOCATIONS_STALE",
                retry_after_s=1.0,
            )
        at = datetime.datetime.fromtimestamp(said.auth_s, datetime.UTC) if said.subject else None
        return Verified(said.realm, said.subject, said.level, said.methods, at, said.handle_hash)

    def forget(self, token: str) -> None:
        """Ask for this token at the service the next time: it was rotated, or its session changed."""
        self._cache.drop(sha256(token.encode(errors="surrogatepass")).digest())

    async def _ask(self, key: bytes, token: str, touch: bool, address: str) -> Verified | None:
        """The service's answer, remembered if it may be; None when a revocation overtook it."""
        began_s, covered = asyncio.get_running_loop().time(), self._feed.since_s is not None
        asked = InFlight()
        self._asked.add(asked)
        try:
            answer = await self._realm.validate(token, touch=touch, address=address, timeout=self._timeout_s)
        except SessionInvalid:
            self._cache.drop(key)
            raise
        except DeadlineExceeded as error:
            raise Unavailable(error.message) from None
        finally:
            self._asked.discard(asked)
        found = Verified.of(answer.session, rotate_hint=answer.rotate_hint)
        if asked.touches(found):
            return None
        # Heard from before the question on: a revocation after its answer will be told.
        if covered and self._feed.fresh:
            self._cache.put(key, found, began_s + self._life_s(answer))
        return found

    def _life_s(self, answer: pb.ValidateResponse) -> float:
        """How long an answer may be remembered: less when the session ends soon, or lives by being asked for often."""
        now_s = self._wall_ns() / 1e9
        idle_s = answer.session.idle_expire_time.ToNanoseconds() / 1e9 - now_s
        absolute_s = answer.session.absolute_expire_time.ToNanoseconds() / 1e9 - now_s
        stale_s = answer.staleness.ToNanoseconds() / 1e9
        life_s: float = min(self._bound_s - stale_s, idle_s / 4, absolute_s)
        return max(0.0, life_s)

    def _revoke(self, one: pb.WatchRevocationsResponse.Revocation) -> None:
        self._cache.revoke(one)
        self._revoked.note(one, asyncio.get_running_loop().time())
        for asked in self._asked:
            asked.note(one)

    def _forget(self) -> None:
        self._cache.clear()
        self._revoked.clear()
        for asked in self._asked:
            asked.note_all()
