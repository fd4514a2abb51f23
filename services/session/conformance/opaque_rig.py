"""Opaque realms for tests: the realm "wiki" over a store, with its verbs and its sweeper."""

from collections.abc import Awaitable, Callable
from typing import Any

from libs.clock.virtual import VirtualClock
from services.session.conformance.harness import Service, opened, service
from services.session.crypto.keyring import Keyring
from services.session.domain.errors import ValueNotFound
from services.session.domain.opaque import OpaqueValues
from services.session.domain.opaque_sweeping import OpaqueSweeper
from services.session.domain.policy import SECOND, Kind, Policy
from services.session.domain.realms import Realm

KEY = b"wiki:MWSession:0123456789abcdef0123456789abcdef"
TTL_S = 3600


class Opaque:
    """An opaque realm "wiki" over a store, its clock in the test's hands."""

    def __init__(self, s: Service, store: Any) -> None:
        self.s, self.store = s, store
        self.values = OpaqueValues(s.tools)
        self.sweeper = OpaqueSweeper(s.tools, SECOND)

    @property
    def realm(self) -> Realm:
        return self.s.realm("wiki")

    async def get(self, key: bytes = KEY) -> bytes | None:
        """The value; None when there is none."""
        try:
            return await self.values.get(self.realm, key)
        except ValueNotFound:
            return None

    async def put(self, value: bytes, key: bytes = KEY) -> None:
        await self.values.put(self.realm, "mw", key, value)

    async def delete(self, key: bytes = KEY) -> None:
        await self.values.delete(self.realm, "mw", key)


async def opaque(
    store: Any, *, clock: VirtualClock | None = None, ring: Keyring | None = None, seed: int = 1, **policy: Any
) -> Opaque:
    """The realm, made when it is not there, over a store."""
    s = await service(store, clock=clock, ring=ring, seed=seed)
    if s.tools.realms.get("wiki") is None:
        await s.tools.realms.create("wiki", Policy(kind=Kind.OPAQUE, ttl_us=TTL_S * SECOND, **policy))
    return Opaque(s, store)


def over_opaque(store_name: str, test: Callable[[Opaque], Awaitable[None]], **policy: Any) -> None:
    """Runs a test over a fresh store, on its clock: hours pass in no time."""
    clock = VirtualClock()

    async def main() -> None:
        async with opened(store_name) as store:
            await test(await opaque(store, clock=clock, **policy))

    clock.run(main(), patience_s=0.005)
