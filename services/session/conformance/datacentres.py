"""Two data centres on one machine: a node of one cluster in each, and what is asked of them.

Nodes keep no hints: what one of them misses while it is away never comes by itself, which is harder than what a cluster
does.
"""

import asyncio
import atexit
import functools
import random
import secrets
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from libs.cassandra import migrations
from libs.cassandra.options import Options
from libs.cassandra.session import EACH_QUORUM
from libs.clock.clock import Clock
from libs.clock.virtual import VirtualClock
from libs.errors.errors import Unavailable
from services.session.cassandra.store import MIGRATIONS, CassandraStore
from services.session.conformance.harness import Events, Service
from services.session.crypto import keyring as keyrings
from services.session.crypto.keyring import Keyring
from services.session.domain.origins import Listening
from services.session.domain.policy import Policy
from services.session.domain.proofs import Proofs
from services.session.domain.realms import Realm, Realms
from services.session.domain.steady import SteadyClock
from services.session.domain.tools import Tools, home_number
from services.session.domain.vault import Vault
from services.session.opening import Front
from services.session.refreshing import Listener, Refresher
from tools.dev.servers.cassandra import Cassandra, Node

NAMES: Final = ("east", "west")
LOST_S: Final = 3.0
"""After this long a write that waits for a node is given up."""
PATIENCE_S: Final = 300
_SETTINGS: Final = {
    "hinted_handoff_enabled": False,
    "read_request_timeout": "2000ms",
    "write_request_timeout": "2000ms",
    "cas_contention_timeout": "1500ms",
    "auto_snapshot": False,
    # A busy machine is no reason to believe that a node is gone.
    "phi_convict_threshold": 16,
}
_KEPT: Final = ("data", "commitlog")
_KEYSPACE: Final = "pair"
NO_FRONTS: Final[Mapping[str, Front]] = {}


@functools.cache
def pair() -> Cassandra:
    """The cluster of this process, with its tables."""
    cluster = Cassandra(dict.fromkeys(NAMES, 1), settings=_SETTINGS, heap_mib=384, links=True)
    cluster.__enter__()
    atexit.register(cluster.__exit__, None, None, None)
    given = options(NAMES[0], cluster)
    given = replace(given, replication=dict.fromkeys(NAMES, 1), request_timeout_s=60.0)
    asyncio.run(migrations.apply(given, migrations.read(MIGRATIONS)))
    return cluster


def node(name: str) -> Node:
    """The node of a data centre."""
    (found,) = pair().in_datacenter(name)
    return found


def options(name: str, cluster: Cassandra | None = None) -> Options:
    """How a data centre's servers ask."""
    (found,) = (cluster or pair()).in_datacenter(name)
    return Options(
        ((found.host, found.port),),
        _KEYSPACE,
        name,
        request_timeout_s=4.0,
        hedge_after_s=0.0,
        reconnect_s=(0.1, 0.3),
    )


@asynccontextmanager
async def dead(name: str) -> AsyncIterator[None]:
    """A data centre whose nodes are killed, and miss all that is written meanwhile."""
    node(name).kill()
    try:
        yield
        # By then what the others wanted to send there is given up.
        await asyncio.sleep(LOST_S)
    finally:
        node(name).restart()


def backed_up(to: Path) -> None:
    """The files of the western node as they are now. It is killed for it, and started again."""
    west = node("west")
    west.kill()
    for kind in _KEPT:
        shutil.copytree(west.directory / kind, to / kind)
    west.restart()


def put_back(backup: Path) -> None:
    """The western node goes on with the files of before."""
    west = node("west")
    west.kill()
    for kind in _KEPT:
        shutil.rmtree(west.directory / kind)
        shutil.copytree(backup / kind, west.directory / kind)
    west.restart()


@contextmanager
def stopped(name: str) -> Iterator[None]:
    """A data centre whose nodes do nothing (SIGSTOP); what was sent to them meanwhile may arrive afterwards, or not."""
    node(name).pause()
    try:
        yield
    finally:
        node(name).resume()


@contextmanager
def cut() -> Iterator[None]:
    """The data centres are all well, and nothing comes from one to the other, of nodes and of servers."""
    links = pair().links
    for link in links:
        link.cut()
    try:
        yield
    finally:
        for link in links:
            link.mend()


@contextmanager
def unreachable(site: "Site", other: str) -> Iterator[None]:
    """A server whose connection to another data centre does not answer."""
    far = site.store.homes._far[other]
    far._rests_until_s = float("inf")
    try:
        yield
    finally:
        far._rests_until_s = 0.0


class Site(Service):
    """A server of a data centre. It hears and says only when it is told (`tick`). `store` is the cluster's, without
    what stands before it."""

    def __init__(
        self,
        name: str,
        realm: str,
        tools: Tools,
        clock: Clock,
        events: Events,
        rng: random.Random,
        store: Any,
        *,
        cached: bool,
    ) -> None:
        super().__init__(tools, clock, events, rng)
        self.name = name
        self.store = store
        self._realm = realm
        origins = tools.store.origins
        assert origins is not None
        known = None if cached else self.store.known
        self._refresher = Refresher(tools.realms, clock, origins, known)
        self._listeners = [Listener(tools.realms, clock, origins, name, events, known) for name in origins.others]

    def realm(self, name: str = "web") -> Realm:
        """The test's own realm, whatever it is called."""
        return super().realm(self._realm)

    def entered(self) -> Realm:
        """The realm as a Validate enters it."""
        return self.tools.realms.enter(self._realm, "app", "Validate")

    async def again(self, front: Front | None = None) -> "Site":
        """Another server of the same data centre, which remembers nothing."""
        vault = self.tools.vault
        ring = Keyring(vault._keyring.everything())
        return await _site(self.name, self._realm, self.clock, ring, front)  # type: ignore[arg-type]

    async def tick(self) -> None:
        """Says what was revoked here, and hears the others."""
        await self._refresher.tick()
        for listener in self._listeners:
            await listener.tick()

    async def hears(self, other: "Site") -> None:
        """Ticks both until all is here that the other one revoked: it must become so by itself."""
        await until(lambda: self._is_whole(other))

    async def _is_whole(self, other: "Site") -> bool:
        await self.clock.advance(0.01)  # type: ignore[attr-defined]
        now_us = self.tools.clock.now_us()
        await other._refresher.tick()
        for listener in self._listeners:
            await listener.tick()
        return self.tools.realms.listening.whole_us(other.name, self._realm) >= now_us


async def until(true: Callable[[], Coroutine[Any, Any, bool]]) -> None:
    """Waits for a condition; what is away meanwhile is asked again."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                if await true():
                    return
            except Unavailable:
                pass
            await asyncio.sleep(0.1)


async def _both_answer(sites: list[Site]) -> bool:
    for site in sites:
        cluster = site.store._cluster
        await cluster.session.execute(cluster._write["note"], ("whole", b""), EACH_QUORUM)
        for name in site.store.homes.others:
            await site.store.homes.at(name).cluster.row("note", "whole")
    return True


async def whole(*sites: Site) -> None:
    """Waits until all data centres answer all of these."""
    await until(lambda: _both_answer(list(sites)))


@asynccontextmanager
async def sites(fronts: Mapping[str, Front] = NO_FRONTS, **policy: Any) -> AsyncIterator[tuple[Site, Site]]:
    """A server in each data centre, with the same keys, one clock and a realm of their own; `fronts`: what stands
    before the stores."""
    clock, ring, realm = VirtualClock(), keyrings.generate(1), f"web{secrets.token_hex(4)}"
    made = [await _site(name, realm, clock, Keyring(ring.everything()), fronts.get(name)) for name in NAMES]
    try:
        await whole(*made)
        for table in ("heartbeats", "fences"):
            # Each test begins at the same time: what another one said later would be believed.
            await made[0].store._cluster.session.run(f"TRUNCATE {table}")
        await made[0].tools.realms.create(realm, Policy(max_anonymous=1000, **policy))
        for site in made * 2:
            await site.tick()
            await clock.advance(0.01)
        for one, other in (made, made[::-1]):
            await one.hears(other)
        yield made[0], made[1]
    finally:
        for name in NAMES:
            node(name).resume()
        await whole(*made)
        for site in made:
            await site.store.close()


async def _site(name: str, realm: str, clock: VirtualClock, ring: Keyring, front: Front | None) -> Site:
    store: Any = await CassandraStore.open(options(name), name, lambda: 0)
    await store.homes.connect()
    await store.known.load()
    steady, rng, events = SteadyClock(clock), random.Random(name), Events()  # noqa: S311 - repeats what a test did
    listening, cluster, hot = Listening(name, store.origins.others), store, store.hot(steady.now_us)
    if front is not None:
        store, hot = front(store, ring, steady, listening)
    realms = Realms(store, name, steady.now_us, listening)
    await realms.load()
    tools = Tools(
        store,
        ring,
        Vault(ring, store, rng.randbytes, alone=False),
        realms,
        steady,
        rng.randbytes,
        events,
        name,
        home_number(name),
        600_000_000,
        Proofs(steady.now_us, ledger=store.ledger),
        shared=True,
        hot=hot,
        others=store.origins.others,
    )
    return Site(name, realm, tools, clock, events, rng, cluster, cached=front is not None)


def played(
    test: Callable[[Site, Site], Coroutine[Any, Any, None]], fronts: Mapping[str, Front] = NO_FRONTS, **policy: Any
) -> None:
    """Runs a test with a server in each data centre."""

    async def main() -> None:
        async with sites(fronts, **policy) as (east, west):
            await test(east, west)

    pair()
    asyncio.run(main())


async def missed() -> None:
    """Most of what was written is given up by now where it could not arrive; nothing here needs all of it to be."""
    await asyncio.sleep(LOST_S)


async def over_the_bound(site: Site) -> None:
    """Longer passes than the realm's bound."""
    await site.clock.advance(site.realm().policy.revocation_bound_us / 1e6 + 1)  # type: ignore[attr-defined]
