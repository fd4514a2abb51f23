"""What the suites run on: each store by a name, a virtual clock, events that are kept, a session service in process."""

import os
import random
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from libs.clock.clock import Clock
from libs.clock.virtual import VirtualClock
from libs.embedded.settings import Settings
from services.session.crypto import keyring as keyrings
from services.session.crypto.keyring import Keyring
from services.session.domain import creating
from services.session.domain.creating import Assurance, Minted
from services.session.domain.policy import Policy
from services.session.domain.proofs import Proofs
from services.session.domain.realms import Realm, Realms
from services.session.domain.steady import SteadyClock
from services.session.domain.tools import Tools
from services.session.domain.vault import Vault
from services.session.store.embedded import EmbeddedStore
from services.session.store.memory import MemoryStore

STORES = ("cassandra",) if os.environ.get("WELLSPRING_CONFORMANCE") == "cassandra" else ("memory", "embedded")
"""Every suite runs over each of them, unchanged."""

EXCEPTIONS = {
    "test_a_handle_is_used_once": "handles are random, and a login asks for nothing before it writes",
    "test_what_has_an_end_is_pruned_at_its_end": "rows go by Cassandra's own time to live, not by a walk",
    "test_ses_23_hints_end_before_their_session_and_leave_the_store": "as above, which a virtual clock does not move",
    "test_a_new_pepper_takes_over_with_each_write_and_the_old_one_goes_with_the_ttl": "as above",
    "test_keys_of_the_keyring_are_retired_when_no_row_needs_them": "as above",
    "test_old_ones_go_and_numbers_go_on": "as above",
    "test_posts_and_deletes_at_once_leave_the_key_deleted": "whoever looked before the deletion is answered, and gone",
    "test_ses_28_a_thousand_reads_write_once_at_most": "a thousand reads, and nothing of a store in it",
    "test_ses_27_sessions_of_one_moment_do_not_end_in_one": "hundreds of writes, and nothing of a store in it",
    "test_ses_07_the_absolute_timeout_moves_by_authenticating_again_only": "as above",
    "test_pieces_follow_each_other_whatever_their_size": "as above; pieces are asked for in cassandra_servers_test.py",
}
"""Tests of the suite that Cassandra is not held to, with the reason: cassandra/expiry_test.py has their like."""

QUICK = Settings(cache_bytes=1 << 20, write_buffer_bytes=1 << 20, reserve_bytes=0)


@asynccontextmanager
async def opened(name: str) -> AsyncIterator[Any]:
    """A fresh store of that name."""
    if name == "memory":
        yield MemoryStore()
        return
    if name == "cassandra":
        # What starts a node is there in the tests that want one only.
        from services.session.conformance import node

        async with node.opened() as cluster:
            yield cluster
        return
    with tempfile.TemporaryDirectory() as path:
        store = EmbeddedStore.open(path, QUICK)
        try:
            yield store
        finally:
            await store.close()


@dataclass
class Events:
    """Keeps what is told."""

    told: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def record(self, what: str, realm: str, *, handle: str = "", caller: str = "", **facts: str | int) -> None:
        self.told.append((what, {"realm": realm, "handle": handle, "caller": caller, **facts}))

    def of(self, what: str) -> list[dict[str, Any]]:
        return [facts for name, facts in self.told if name == what]


class Service:
    """The domain over a store, as main wires it, with the clock in the test's hands."""

    def __init__(self, tools: Tools, clock: Clock, events: Events, rng: random.Random) -> None:
        self.tools = tools
        self.clock = clock
        self.events = events
        self.rng = rng

    def realm(self, name: str = "web") -> Realm:
        realm = self.tools.realms.get(name)
        assert realm is not None
        return realm

    async def set_policy(self, name: str = "web", **changes: Any) -> None:
        await self.tools.realms.update(name, replace(self.realm(name).policy, **changes), "")

    def uuid(self) -> str:
        digits = self.rng.randbytes(16).hex()
        return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))

    async def create(
        self,
        subject: str = "alice",
        *,
        realm: str = "web",
        level: int = 1,
        data: dict[str, bytes] | None = None,
        shared: dict[str, bytes] | None = None,
        request_id: str = "",
        caller: str = "app",
        auth_us: int = 0,
    ) -> Minted:
        assurance = Assurance(level if subject else 0, ("pwd",) if subject else (), auth_us)
        return await creating.create(
            self.tools,
            self.realm(realm),
            caller,
            subject,
            assurance,
            data or {},
            shared or {},
            request_id or self.uuid(),
        )


async def service(
    store: Any, *, ring: Keyring | None = None, clock: Clock | None = None, seed: int = 1, **policy: Any
) -> Service:
    """A service with the realms "web" and "app" over a store."""
    clock = clock or VirtualClock()
    ring = ring or keyrings.generate(1)
    rng = random.Random(seed)  # noqa: S311 - repeats what a test did
    steady = SteadyClock(clock)
    realms = Realms(store, "local", steady.now_us)
    await realms.load()
    for name in ("web", "app"):
        if realms.get(name) is None:
            await realms.create(name, Policy(max_anonymous=1000, **policy))
    events = Events()
    vault = Vault(ring, store, rng.randbytes)
    tools = Tools(
        store,
        ring,
        vault,
        realms,
        steady,
        rng.randbytes,
        events,
        "local",
        7,
        600_000_000,
        Proofs(steady.now_us, ledger=store.ledger),
    )
    return Service(tools, clock, events, rng)


def over(store_name: str, test: Callable[[Service], Awaitable[None]], **policy: Any) -> None:
    """Runs a test over a fresh store, on its clock: hours pass in no time."""
    clock = VirtualClock()

    async def main() -> None:
        async with opened(store_name) as store:
            await test(await service(store, clock=clock, **policy))

    clock.run(main(), patience_s=0.005)


def files(path: Path) -> bytes:
    """Every byte of every file below a directory."""
    return b"\0".join(p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file())
