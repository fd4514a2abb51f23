"""Canary sessions: one is made, seen good, revoked, and seen refused, all the time, so that the bound of revocation is
measured and not believed.

Each has two figures, from the moment before the call that revokes: until this server refuses the token, and until a
watcher of the feed has heard of it. The realm of canaries is nobody else's, and its sessions end by themselves within
minutes should the server die between the two.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from libs.errors.errors import WellspringError
from libs.paging.paging import PageTokens
from libs.telemetry.logs import fields
from services.session.domain.creating import Assurance, create
from services.session.domain.errors import PolicyRefused, SessionInvalid
from services.session.domain.policy import MINUTE, Caller, Kind, Policy, Timeouts
from services.session.domain.realms import Realm, Realms
from services.session.domain.revoking import revoke_token
from services.session.domain.tools import Tools
from services.session.domain.validating import validate
from services.session.watching import watch
from wellspring.session.v1 import session_pb2 as pb

log = logging.getLogger(__name__)

IDENTITY: Final = "wellspring-canary"
"""Who uses the realm of canaries: the server itself, and no caller."""
SUBJECT: Final = "canary"
KEPT, LATE, ALIVE, FAILED = OUTCOMES = ("kept", "late", "alive", "failed")
"""Within the bound; later than that; good after it was revoked, which must never be; not measured."""
_SHORT: Final = Timeouts(MINUTE, 5 * MINUTE)
_BUCKETS: Final = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30)


async def open_realm(realms: Realms, name: str) -> None:
    """The realm of canaries, made when it is not there. Raises PolicyRefused when it is there for something else."""
    callers = (Caller(IDENTITY, ("*",)),)
    policy = Policy(timeouts=(_SHORT,) * 3, max_sessions_per_subject=10, callers=callers)
    there = await realms.ensure(name, policy)
    if there.policy.callers != callers or there.policy.kind is not Kind.MINTED:
        raise PolicyRefused(f"canary.realm: the realm {name} is somebody's; name one that is for canaries alone")


class Canary:
    """Measures every `interval_s`; what took longer than `bound_s` is late."""

    def __init__(
        self,
        tools: Tools,
        pages: PageTokens,
        registry: CollectorRegistry,
        *,
        realm: str,
        interval_s: float,
        bound_s: float,
    ) -> None:
        self._tools = tools
        self._pages = pages
        self._realm = realm
        self._interval_s = interval_s
        self._bound_s = bound_s
        self._took = Histogram(
            "wellspring_session_canary_revocation_seconds",
            "From the call that revokes until the server refuses, and until a watcher has heard.",
            ["seen_by"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self._outcomes = Counter(
            "wellspring_session_canaries",
            "Canary sessions by how their revocation went.",
            ["outcome"],
            registry=registry,
        )
        self._last = Gauge(
            "wellspring_session_canary_last_seconds",
            "Unix time of the last canary that was measured.",
            registry=registry,
        )
        for outcome in OUTCOMES:
            self._outcomes.labels(outcome)

    async def run(self) -> None:
        """Measures for ever."""
        while True:
            await self.measure()
            await self._tools.clock.clock.sleep(self._interval_s)

    async def measure(self) -> str:
        """One canary's outcome."""
        try:
            async with asyncio.timeout(2 * self._bound_s + self._interval_s):
                outcome = await self._measured(self._tools.realms.enter(self._realm, IDENTITY, "Create"))
        except (WellspringError, TimeoutError) as error:
            reason = error.reason if isinstance(error, WellspringError) else "TIMEOUT"
            log.warning("a canary session could not be measured", extra=fields(reason=reason))
            outcome = FAILED
        else:
            self._last.set(self._tools.clock.now_us() / 1e6)
        self._outcomes.labels(outcome).inc()
        if outcome in (LATE, ALIVE):
            log.error("a revocation was not kept in time", extra=fields(outcome=outcome))
        return outcome

    async def _measured(self, realm: Realm) -> str:
        tools, clock = self._tools, self._tools.clock.clock
        request_id = tools.random(16).hex()
        made = await create(tools, realm, IDENTITY, SUBJECT, Assurance(1, (), 0), {}, {}, request_id)
        await validate(tools, realm, IDENTITY, made.token)
        request = pb.WatchRevocationsRequest(realm=realm.name)
        feed = watch(tools, self._pages, request, IDENTITY)
        try:
            await anext(feed)
            began_s = clock.monotonic()
            await revoke_token(tools, realm, IDENTITY, made.token)
            alive = await self._is_good(realm, made.token)
            self._took.labels("server").observe(clock.monotonic() - began_s)
            if alive:
                return ALIVE
            await _heard(feed, sha256(made.session.handle.encode()).digest())
            took_s = clock.monotonic() - began_s
            self._took.labels("feed").observe(took_s)
        finally:
            await feed.aclose()
        return KEPT if took_s <= self._bound_s else LATE

    async def _is_good(self, realm: Realm, token: bytes) -> bool:
        try:
            await validate(self._tools, realm, IDENTITY, token)
        except SessionInvalid:
            return False
        return True


async def _heard(feed: AsyncIterator[pb.WatchRevocationsResponse], name: bytes) -> None:
    async for answer in feed:
        if any(one.handle_hash == name for one in answer.revocations):
            return
