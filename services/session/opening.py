"""What the server works with, over an open store: keyring, clock, realms."""

from collections.abc import Callable, Sequence
from pathlib import Path

from libs.clock.clock import Clock
from libs.config import wiring
from libs.config.origins import origin_of
from libs.errors.errors import FailedPrecondition
from services.session.crypto.keyring import Keyring
from services.session.domain.hot import Hot
from services.session.domain.origins import Listening
from services.session.domain.policy import check
from services.session.domain.proofs import Proofs
from services.session.domain.realms import Realms
from services.session.domain.steady import SteadyClock
from services.session.domain.sweeping import CLOCK
from services.session.domain.tools import Events, Tools, home_number
from services.session.domain.vault import Vault
from services.session.keyring_file import open_keyring
from services.session.realm_messages import policy_of
from services.session.store.interface import Store
from wellspring.config.v1 import session_pb2 as config_pb

Front = Callable[[Store, Keyring, SteadyClock, Listening], tuple[Store, Hot]]
"""Puts something before a store: that, or the store as it is, and what the hot path reads."""


class NotSupported(FailedPrecondition):
    """The configuration asks for something that this server does not do."""

    default_reason = "NOT_SUPPORTED"


def check_supported(config: config_pb.SessionConfig) -> None:
    """Raises FailedPrecondition for what the configuration's contract has and this server does not do."""
    kind = origin_of(config.backend).WhichOneof("kind")
    if config.server.workers > 1:
        raise NotSupported(
            "server.workers: a session server has one process; 1 is allowed (with the backend cassandra, start several"
            " servers)"
        )
    if config.incarnation_file and kind != "embedded":
        what = "a restored backup is recognised with the embedded store only; leave it out"
        raise NotSupported(f"incarnation_file: {what}")


def _check_several(config: config_pb.SessionConfig, others: Sequence[str]) -> None:
    """Raises FailedPrecondition for what is not done where several data centres keep sessions."""
    named: dict[int, str] = {}
    for name in (config.datacentre, *others):
        other = named.setdefault(home_number(name), name)
        if other != name:
            raise NotSupported(f"datacentre: tokens cannot tell {name!r} from {other!r}; one needs another name")


async def make_tools(
    config: config_pb.SessionConfig,
    store: Store,
    clock: Clock,
    random: Callable[[int], bytes],
    events: Events,
    *,
    shared: bool = False,
    front: Front | None = None,
) -> Tools:
    """Keyring, clock and realms over an open store; realms of the configuration are made when they are not there.
    `shared`: other servers may have the store too. `front` is put before the store when the keyring is there.

    Raises KeyringUnusable, PolicyRefused.
    """
    ring = await open_keyring(Path(config.keyring_file), store, clock.time_ns() // 10**9, create=config.create_keyring)
    noted = (await store.noted([CLOCK])).get(CLOCK, b"0")
    steady = SteadyClock(clock, int(noted))
    others = store.origins.others if store.origins is not None else ()
    if others:
        _check_several(config, others)
    listening = Listening(config.datacentre, others)
    hot: Hot | None = None
    if front is not None:
        store, hot = front(store, ring, steady, listening)
    realms = Realms(store, config.datacentre, steady.now_us, listening)
    await realms.load()
    if store.origins is not None:
        realms.listening.shut(await store.origins.fences())
    for message in config.realms:
        policy = policy_of(message)
        check(message.name, policy)
        await realms.ensure(message.name, policy)
    return Tools(
        store=store,
        keyring=ring,
        vault=Vault(ring, store, random, alone=not shared),
        realms=realms,
        clock=steady,
        random=random,
        events=events,
        datacentre=config.datacentre,
        home=home_number(config.datacentre),
        request_window_us=int(wiring.seconds(config.request_id_window) * 1e6),
        proofs=Proofs(steady.now_us, ledger=store.ledger),
        shared=shared,
        hot=hot,
        others=others,
    )
