"""A whole deployment that is edited, read and killed all the time, and what was acknowledged while that went on."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import aiohttp

from tests.system.kills_renderer import PREFIX, body
from tools.platform import health, ports
from tools.platform.layout import SERVICES, Layout, Route, fixed_ports
from tools.platform.platform import Platform
from wellspring.propagation.v1 import propagation_pb2
from wellspring_client import aio, tokens
from wellspring_client.errors import DeadlineExceeded, NotFound, SessionInvalid, Unavailable, WellspringError
from wellspring_client.session import Token

SOURCES, VIEW = "sources", "html"
VIEWS = f"""
views:
  - name: {VIEW}
    resource_prefixes: ["{PREFIX}page/"]
    source_namespace: {SOURCES}
    source_prefix: "{PREFIX}"
    render: {{entry_point: {{function: "tests.system.kills_renderer:render"}}, timeout: 10s}}
    store: {{namespace: {VIEW}, record: "{{resource}}"}}
    purge: {{urls: ["/wiki/page/{{path}}"]}}
    retry: {{max_attempts: 100, initial_backoff: 100ms, max_backoff: 1s}}
    lease_time: 3s
"""
TEMPLATES = [f"template/{letter}" for letter in "abcde"]
CALL_S = 5.0
QUIET_S = 300.0
_AGAIN_S = 0.05
_LEAVE_AGAIN = 0.2
_Answer = TypeVar("_Answer")


@dataclass
class Ledger:
    """What was acknowledged: the newest revision by record, the ids of all changes, sessions by handle, and the tokens
    of those that were ended.

    `shown` is the newest that readers have seen of each page, by line; `went_back` what they saw go backwards.
    """

    revisions: dict[str, int] = field(default_factory=dict)
    changes: list[str] = field(default_factory=list)
    sessions: list[tuple[str, Token]] = field(default_factory=list)
    revoked: list[Token] = field(default_factory=list)
    reads: int = 0
    shown: dict[str, dict[str, int]] = field(default_factory=dict)
    went_back: list[str] = field(default_factory=list)


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Platform]:
    """All processes on free ports, none restarted by itself."""
    layout = Layout(
        data=folder,
        ports=fixed_ports(ports.free_base()),
        routes=(Route("/wiki/", VIEW, PREFIX),),
        views=VIEWS,
        overrides={service: {"server": {"drain_wait": "50ms"}} for service in SERVICES},
    )
    with Platform(layout, restart=False) as platform:
        yield platform


class Site:
    """The pages of a running platform. Each record has one writer, so its revisions are written in order."""

    def __init__(self, platform: Platform, client: aio.Client, http: aiohttp.ClientSession, rng: random.Random) -> None:
        self.platform = platform
        self.ledger = Ledger()
        self._client = client
        self._sources = client.storage.namespace(SOURCES)
        self._http = http
        self._rng = rng
        self._uses: dict[str, list[str]] = {}
        self._stopped = asyncio.Event()

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, platform: Platform, rng: random.Random) -> AsyncIterator["Site"]:
        """The site of a platform that has just started."""
        at = platform.addresses
        connected = aio.connect(
            storage=at["storage"], session=at["session"], propagation=at["propagation"], timeout=CALL_S
        )
        async with connected as client, aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(CALL_S)) as http:
            await client.storage.create_namespace(VIEW, description="what readers see")
            await client.storage.create_namespace(SOURCES, resource_prefix=PREFIX, description="what editors write")
            yield cls(platform, client, http, rng)

    # -- editors and readers ------------------------------------------------------------------------------------------

    async def create(self, pages: int) -> None:
        """The templates, and pages that name two of them each."""
        for name in TEMPLATES:
            await self._write(name, 1)
        numbers = range(len(self._uses), len(self._uses) + pages)
        await asyncio.gather(*(self._write(self._new_page(number), 1) for number in numbers))

    def _new_page(self, number: int) -> str:
        name = f"page/{number:04d}"
        self._uses[name] = sorted(self._rng.sample(TEMPLATES, 2))
        return name

    def live(self, tasks: asyncio.TaskGroup, readers: int) -> None:
        """Editors of every template, of pages and of new pages, people who log in, and readers: until `stop`."""
        for name in TEMPLATES:
            tasks.create_task(self._edit(partial(_always, name), self._own_rng(), 0.5, 1.5))
        tasks.create_task(self._edit(self._some_page, self._own_rng(), 0.05, 0.2))
        tasks.create_task(self._log_in(self._own_rng()))
        for _ in range(readers):
            tasks.create_task(self._read(self._own_rng()))

    def _own_rng(self) -> random.Random:
        return random.Random(self._rng.randrange(1 << 30))  # noqa: S311  a seeded test

    def stop(self) -> None:
        """Nobody begins anything any more."""
        self._stopped.set()

    async def _edit(
        self, choose: Callable[[random.Random], str], rng: random.Random, least_s: float, most_s: float
    ) -> None:
        while not self._stopped.is_set():
            name = choose(rng)
            await self._write(name, self.ledger.revisions.get(name, 0) + 1)
            await self._pause(rng.uniform(least_s, most_s))

    def _some_page(self, rng: random.Random) -> str:
        return self._new_page(len(self._uses)) if rng.random() < 0.2 else rng.choice(list(self._uses))

    async def _write(self, name: str, revision: int) -> None:
        """One write, sent again as the same one until it is acknowledged."""
        text = "\n".join([str(revision), *self._uses.get(name, [])])
        token = self._sources.new_token()
        receipt = await self._until_answered(lambda: self._sources.put(name, text.encode(), token=token))
        self.ledger.revisions[name] = revision
        self.ledger.changes.append(receipt.change_id)

    async def _log_in(self, rng: random.Random) -> None:
        realm = self._client.session.realm("web")
        while not self._stopped.is_set():
            subject = f"reader-{rng.randrange(1 << 60)}"
            create = partial(realm.create, subject, request_id=tokens.request_id())
            minted = await self._until_answered(create)
            if rng.random() < _LEAVE_AGAIN:
                await self._until_answered(partial(realm.revoke, minted.token))
                self.ledger.revoked.append(minted.token)
            else:
                self.ledger.sessions.append((minted.session.handle, minted.token))
            await self._pause(rng.uniform(0.02, 0.1))

    async def _read(self, rng: random.Random) -> None:
        while not self._stopped.is_set():
            page = rng.choice(list(self._uses))
            before = dict(self.ledger.shown.get(page, {}))
            served = await self.get(page)
            if served is not None:
                self._note(page, before, served)
            await self._pause(0.005)

    def _note(self, page: str, before: dict[str, int], served: bytes) -> None:
        lines = dict(line.split(" ") for line in served.decode().split("\n"))
        now = {name: int(revision) for name, revision in lines.items() if revision != "-"}
        older = {name: (told, now.get(name)) for name, told in before.items() if now.get(name, 0) < told}
        if older:
            self.ledger.went_back.append(f"{page}: {older}")
        shown = self.ledger.shown.setdefault(page, {})
        shown.update({name: max(told, shown.get(name, 0)) for name, told in now.items()})
        self.ledger.reads += 1

    async def get(self, page: str) -> bytes | None:
        """What a reader of the page gets; None for an answer without a page, or none at all."""
        try:
            async with self._http.get(f"http://{self.platform.addresses['http']}/wiki/{page}") as answer:
                return await answer.read() if answer.status == 200 else None
        except (aiohttp.ClientError, TimeoutError):
            return None

    async def _until_answered(self, call: Callable[[], Awaitable[_Answer]]) -> _Answer:
        while True:
            try:
                return await call()
            except (Unavailable, DeadlineExceeded):
                await asyncio.sleep(_AGAIN_S)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), seconds)

    # -- the truth at the end -----------------------------------------------------------------------------------------

    async def all_healthy(self) -> None:
        """Waits until every process serves again. Raises TimeoutError."""
        async with asyncio.timeout(QUIET_S):
            for name in SERVICES:
                address = self.platform.layout.address(name)
                while await asyncio.to_thread(health.check, address) != health.SERVING:  # noqa: ASYNC110  a process
                    await asyncio.sleep(_AGAIN_S)

    async def problems(self) -> list[str]:
        """What is missing or stale once everything had its time: nothing, if promises are kept."""
        found = [f"{name} ended by itself" for name in SERVICES if not self.platform.running(name)]
        if found:
            return found
        sources = await self._stored()
        found = [
            f"{name}: revision {revision} was acknowledged, {sources.get(name)} is stored"
            for name, revision in self.ledger.revisions.items()
            if int(sources.get(name, "0").split("\n")[0]) < revision
        ]
        found += await self._stale(sources)
        found += [problem for one in self.ledger.changes if (problem := await self._unfinished(one))]
        found += [problem for handle, token in self.ledger.sessions if (problem := await self._lost(handle, token))]
        found += [problem for token in self.ledger.revoked if (problem := await self._still_good(token))]
        found += [f"a reader saw an older page after a newer one: {what}" for what in self.ledger.went_back]
        return found

    async def _lost(self, handle: str, token: Token) -> str | None:
        try:
            answer = await self._client.session.realm("web").validate(token)
        except WellspringError as error:
            return f"the session {handle} was acknowledged; its token is refused: {error}"
        return None if answer.session.handle == handle else f"{answer.session.handle} came for the token of {handle}"

    async def _still_good(self, token: Token) -> str | None:
        try:
            answer = await self._client.session.realm("web").validate(token)
        except SessionInvalid:
            return None
        return f"the session {answer.session.handle} was revoked; its token is good"

    async def _stored(self) -> dict[str, str]:
        return {record.key.decode(): record.value.decode() async for record in self._sources.scan()}

    async def _stale(self, sources: dict[str, str]) -> list[str]:
        """Pages that the gateway does not show as they have to be, after at most QUIET_S."""
        wrong: dict[str, tuple[bytes, bytes | None]] = {
            name: (b"", None) for name in sources if name.startswith("page/")
        }
        end = time.monotonic() + QUIET_S
        while wrong:
            for name in list(wrong):
                revision, *templates = sources[name].split("\n")
                wanted = body(name, revision, {one: sources[one] for one in templates})
                served = await self.get(name)
                if served == wanted:
                    del wrong[name]
                else:
                    wrong[name] = (wanted, served)
            if wrong and time.monotonic() > end:
                break
            await asyncio.sleep(_AGAIN_S)
        return [f"{name}: (wanted, served) is {told} after {QUIET_S:.0f} s" for name, told in wrong.items()]

    async def _unfinished(self, change: str) -> str | None:
        end = time.monotonic() + QUIET_S
        while True:
            try:
                root = await self._client.propagation.get_change(change)
            except NotFound:
                what = "is not known to the engine"
            else:
                if root.state == propagation_pb2.Root.STATE_DONE:
                    return None
                what = f"is {propagation_pb2.Root.State.Name(root.state)}: {root.progress}"
            if time.monotonic() > end:
                return f"the acknowledged change {change} {what}"
            await asyncio.sleep(_AGAIN_S)


def _always(name: str, _: random.Random) -> str:
    return name


async def load(site: Site, pages: int) -> None:
    """Creates the pages and waits until readers see all of them. Raises AssertionError."""
    await site.create(pages)
    assert not (problems := await site.problems()), problems[:5]


__all__ = ["SERVICES", "TEMPLATES", "Ledger", "Site", "load", "running"]
