"""The feed of revocations, followed for as long as somebody checks sessions here; and whether what is known of them is
fresh.

Fresh means: from every origin ever heard of there is a heartbeat at most the bound old, and everything up to it has
been told to ``on_revoked``. A heartbeat's age counts from when its origin made it, so that a feed that is slow is as
stale as one that is cut; clocks further apart than ``skew_s`` are never fresh.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Final, NamedTuple, Protocol, cast

from wellspring.session.v1 import session_pb2 as pb
from wellspring_client.errors import PageTokenInvalid, ResumeTokenExpired, Unavailable, WellspringError

_PAUSE_S: Final = 0.05
_PAUSE_MOST_S: Final = 2.0


class Watched(Protocol):
    """Where the feed comes from: a realm of the asynchronous client."""

    def watch_revocations(self, *, resume_token: str = "") -> AsyncIterator[pb.WatchRevocationsResponse]:
        """Revocations and heartbeats."""
        ...


class _Heard(NamedTuple):
    sequence: int
    at_s: float


class _Restored(Exception):
    """An origin counts from a lower number than before: it forgot, so that everything must be."""


class Feed:
    """``on_revoked`` is told each revocation once and in order of each origin; ``on_reset`` when some may have been
    missed: everything believed until then must be forgotten. Belongs to one event loop.

    ``trouble`` says in words why the feed is not fresh, as far as it is known. ``since_s``: revocations at or after
    this second (since 1970) are all told; None before the first heartbeat.
    """

    def __init__(
        self,
        source: Watched,
        *,
        bound_s: float,
        skew_s: float,
        on_revoked: Callable[[pb.WatchRevocationsResponse.Revocation], None],
        on_reset: Callable[[], None],
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._source = source
        self._bound_s = bound_s
        self._skew_s = skew_s
        self._on_revoked = on_revoked
        self._on_reset = on_reset
        self._wall_ns = wall_ns
        self._resume = ""
        self._heard: dict[str, _Heard] = {}
        self.since_s: int | None = None
        self.trouble = "the feed of revocations was not heard yet"

    @property
    def fresh(self) -> bool:
        """Whether everything that was revoked until the bound ago is known."""
        now_s = asyncio.get_running_loop().time()
        return bool(self._heard) and all(now_s - one.at_s <= self._bound_s for one in self._heard.values())

    async def run(self) -> None:
        """Follow the feed until cancelled. Failures of the service are waited out."""
        pause_s = _PAUSE_S
        while True:
            heard = False
            try:
                async with contextlib.aclosing(self._answers()) as answers:
                    async for answer in answers:
                        self._take(answer)
                        heard, pause_s = True, _PAUSE_S
                self.trouble = "the feed of revocations ended"
            except (ResumeTokenExpired, PageTokenInvalid, _Restored):
                self._reset()
            except TimeoutError:
                self.trouble = "the feed of revocations is silent"
            except WellspringError as error:
                self.trouble = f"the feed of revocations is cut: {error.message}"
            if not heard:
                pause_s = min(2 * pause_s, _PAUSE_MOST_S, self._bound_s / 2)
            await asyncio.sleep(pause_s * random.uniform(0.5, 1))  # noqa: S311 - spreads reconnections, no secret

    async def _answers(self) -> AsyncGenerator[pb.WatchRevocationsResponse, None]:
        """One stream; TimeoutError when nothing came for the bound: a dead connection may look like a silent one."""
        stream = self._source.watch_revocations(resume_token=self._resume)
        async with contextlib.aclosing(cast(AsyncGenerator[pb.WatchRevocationsResponse, None], stream)):
            while True:
                try:
                    async with asyncio.timeout(self._bound_s):
                        answer = await anext(stream)
                except StopAsyncIteration:
                    return
                yield answer

    def _take(self, answer: pb.WatchRevocationsResponse) -> None:
        """Revocations first: a heartbeat speaks of what came with it, too."""
        for beat in answer.heartbeats:
            if beat.origin in self._heard and beat.sequence < self._heard[beat.origin].sequence:
                raise _Restored
        for revocation in answer.revocations:
            self._on_revoked(revocation)
        now_s, wall_s = asyncio.get_running_loop().time(), self._wall_ns() / 1e9
        for beat in answer.heartbeats:
            late_s = wall_s - beat.time.ToNanoseconds() / 1e9
            before = self._heard.get(beat.origin)
            at_s = now_s - max(0.0, late_s - self._skew_s)
            if late_s < -self._skew_s:
                at_s = before.at_s if before else float("-inf")
            self._heard[beat.origin] = _Heard(beat.sequence, at_s)
            if abs(late_s) > self._skew_s + self._bound_s or late_s < -self._skew_s:
                self.trouble = f"{beat.origin} is {late_s:.1f} s behind this clock: are the clocks apart?"
        if self.since_s is None and answer.heartbeats:
            self.since_s = max(beat.time.seconds for beat in answer.heartbeats)
        self._resume = answer.resume_token or self._resume

    def _reset(self) -> None:
        self.trouble = "the feed of revocations begins anew"
        self._resume, self._heard, self.since_s = "", {}, None
        self._on_reset()

    def refuse(self) -> Unavailable:
        """The error for what cannot be judged now."""
        what = f"it is not known now which sessions were revoked: {self.trouble}"
        return Unavailable(what, reason="REVOCATIONS_STALE")
