"""Starting with data and keyring that belong together, or not at all."""

import asyncio
import json
import logging
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

from libs.clock.clock import Clock
from libs.config import wiring
from libs.errors.errors import FailedPrecondition
from libs.telemetry.logs import fields
from services.session.crypto import keyring as keyrings
from services.session.crypto.keyring import Keyring, KeyringUnusable
from services.session.domain.policy import check
from services.session.domain.realms import Realms
from services.session.domain.steady import SteadyClock
from services.session.domain.sweeping import CLOCK
from services.session.domain.tools import Events, Tools
from services.session.domain.vault import Vault
from services.session.realm_messages import policy_of
from services.session.store.interface import Store
from wellspring.config.v1 import session_pb2 as config_pb

log = logging.getLogger(__name__)

_NOTE: Final = "keyring"


class NotSupported(FailedPrecondition):
    """The configuration asks for something that this server does not do."""

    default_reason = "NOT_SUPPORTED"


async def open_keyring(path: Path, store: Store, now_s: int, *, create: bool) -> Keyring:
    """The keyring of the file, which holds every key that the store's data was written with.

    Made when neither it nor data is there and `create` says so. Raises KeyringUnusable, having changed nothing.
    """
    noted = (await store.noted([_NOTE])).get(_NOTE)
    if not await asyncio.to_thread(path.exists):
        if noted is not None:
            raise KeyringUnusable(
                f"there is data, and the keyring that it was written with is not at {path}; put it back from its own"
                " backup (without it no session can be read; to begin anew, move the data away)"
            )
        if not create:
            raise KeyringUnusable(f"there is no keyring at {path}; give one, or set create_keyring for a first start")
        await asyncio.to_thread(keyrings.save, path, keyrings.generate(now_s))
        log.info("a keyring was made", extra=fields(path=str(path)))
    ring = await asyncio.to_thread(keyrings.load, path)
    known = _known(noted)
    checks = {key.key_id: key.check for key in ring.everything()}
    missing = sorted(key_id for key_id, check in known.items() if key_id not in checks)
    if missing:
        raise KeyringUnusable(
            f"the keyring at {path} is older than the data: it lacks {', '.join(missing)}; put the newest one back"
        )
    if any(checks[key_id] != check for key_id, check in known.items()):
        raise KeyringUnusable(f"the keyring at {path} is not the one that the data was written with")
    if checks != known:
        await store.note({_NOTE: json.dumps(checks).encode()})
    return ring


def _known(noted: bytes | None) -> dict[str, str]:
    if noted is None:
        return {}
    known: dict[str, str] = json.loads(noted)
    return known


def check_supported(config: config_pb.SessionConfig) -> None:
    """Raises FailedPrecondition for what the configuration's contract has and this server does not do."""
    if config.backend.WhichOneof("kind") != "embedded":
        raise NotSupported("backend: the embedded store is the only one there is")
    if config.server.workers > 1:
        raise NotSupported("server.workers: the embedded store has one process; 1 is allowed")
    if config.incarnation_file:
        raise NotSupported("incarnation_file: restored backups are not recognised by this version; leave it out")


async def make_tools(
    config: config_pb.SessionConfig,
    store: Store,
    clock: Clock,
    random: Callable[[int], bytes],
    events: Events,
) -> Tools:
    """Keyring, clock and realms over an open store; realms of the configuration are made when they are not there.

    Raises KeyringUnusable, PolicyRefused, Unimplemented.
    """
    ring = await open_keyring(Path(config.keyring_file), store, clock.time_ns() // 10**9, create=config.create_keyring)
    noted = (await store.noted([CLOCK])).get(CLOCK, b"0")
    steady = SteadyClock(clock, int(noted))
    realms = Realms(store, config.datacentre, steady.now_us)
    await realms.load()
    for message in config.realms:
        policy = policy_of(message)
        check(message.name, policy)
        if realms.get(message.name) is None:
            await realms.create(message.name, policy)
    return Tools(
        store=store,
        keyring=ring,
        vault=Vault(ring, store, random),
        realms=realms,
        clock=steady,
        random=random,
        events=events,
        datacentre=config.datacentre,
        home=zlib.crc32(config.datacentre.encode()) & 0xFFFF,
        request_window_us=int(wiring.seconds(config.request_id_window) * 1e6),
    )
