"""Changing a session's data, by the bearer or (the shared compartment) by handle: all or nothing, once a request."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from services.session.crypto import pseudonyms
from services.session.domain import homes
from services.session.domain.bearer import identify
from services.session.domain.creating import with_totals
from services.session.domain.errors import RequestReused, SessionNotFound
from services.session.domain.model import DATA, REQUEST, SHARED, SHARED_REQUEST, Session
from services.session.domain.operations import Changes, Limits, Operation, Totals, Value, apply
from services.session.domain.proofs import Proof
from services.session.domain.realms import Realm
from services.session.domain.tools import Tools, until_written
from services.session.domain.validating import open_data_key, readable
from services.session.store.interface import Stored


class Updated(NamedTuple):
    """The new version of each key named (0: removed), the results of additions, and the session's handle and revision
    since."""

    versions: dict[str, int]
    counters: dict[str, int]
    handle: str = ""
    revision: int = 0


class _Request(NamedTuple):
    """What is asked for: the kind of items, by whom, how it is remembered."""

    realm: Realm
    kind: bytes
    operations: Sequence[Operation]
    item: bytes
    digest: str


async def update_data(
    tools: Tools,
    realm: Realm,
    caller: str,
    text: bytes,
    operations: Sequence[Operation],
    request_id: str,
    proof: Proof | None = None,
) -> Updated:
    """Changes the sealed data. Raises TokenMalformed, SessionInvalid, VersionMismatch, DataTooLarge, DataKeyDenied."""
    readable(realm.policy, caller, "UpdateData", [operation.key for operation in operations])
    wanted = _request(tools, realm, caller, DATA, operations, "UpdateData", request_id)

    async def attempt() -> Updated | None:
        bearer = await identify(
            tools,
            realm,
            text,
            caller=caller,
            keys=lambda token: _keys(tools, wanted, token.handle),
            proof=proof,
            decided=True,
        )
        data_key, _ = await open_data_key(tools, bearer)
        return await _change(tools, wanted, bearer.session, bearer.stored, data_key, bearer.now_us)

    return await until_written(attempt)


async def update_shared(
    tools: Tools, realm: Realm, caller: str, handle: str, operations: Sequence[Operation], request_id: str
) -> Updated:
    """Changes the shared compartment. Raises SessionNotFound, VersionMismatch, DataTooLarge, DataKeyDenied."""
    readable(realm.policy, caller, "UpdateShared", [operation.key for operation in operations])
    wanted = _request(tools, realm, caller, SHARED, operations, "UpdateShared", request_id)

    async def attempt() -> Updated | None:
        stored = await homes.find(tools, realm.name, handle, _keys(tools, wanted, handle), decided=True)
        session, now_us = stored.session, tools.clock.now_us()
        if session is None or not realm.judge(stored, now_us).live:
            raise SessionNotFound
        found = await tools.vault.session_key(session)
        if found is None:
            raise SessionNotFound
        key = tools.vault.shared_key(found[0], realm.name, handle)
        return await _change(tools, wanted, session, stored, key, now_us)

    return await until_written(attempt)


async def _change(
    tools: Tools, wanted: _Request, session: Session, stored: Stored, key: bytes, now_us: int
) -> Updated | None:
    """One attempt: the answer, or None when another change came first."""
    remembered = stored.items.get(wanted.item)
    if remembered is not None and now_us < remembered.until_us:
        digest, kept = tools.vault.open(key, session.realm, session.handle, remembered)
        if digest != wanted.digest:
            raise RequestReused
        await tools.store.settled()
        return Updated(**json.loads(kept))
    values = {}
    for item_key, item in stored.items.items():
        if item_key[:1] == wanted.kind:
            name, value = tools.vault.open(key, session.realm, session.handle, item)
            values[name] = Value(value, item.version)
    totals = Totals(session.data_keys, session.data_bytes, session.floor)
    policy = wanted.realm.policy
    changes = apply(wanted.operations, values, totals, Limits(policy.max_data_keys, policy.max_data_bytes))
    after = with_totals(replace(session, revision=session.revision + 1), changes.totals)
    answer = Updated(changes.versions, changes.counters, session.handle, after.revision)
    return answer if await _write(tools, wanted, session, after, changes, answer, key, now_us) else None


async def _write(
    tools: Tools,
    wanted: _Request,
    before: Session,
    after: Session,
    changes: Changes,
    answer: Updated,
    key: bytes,
    now_us: int,
) -> bool:
    vault, realm, handle = tools.vault, before.realm, before.handle
    put = [
        vault.seal(key, realm, handle, vault.item_key(wanted.kind, realm, handle, name), v.version, name, v.value)
        for name, v in changes.put.items()
    ]
    kept = vault.seal(key, realm, handle, wanted.item, 0, wanted.digest, json.dumps(answer._asdict()).encode())
    put.append(kept._replace(until_us=now_us + tools.request_window_us))
    remove = [vault.item_key(wanted.kind, realm, handle, name) for name in changes.remove]
    return await tools.store.replace(before, after, put=put, remove=remove)


def _keys(tools: Tools, wanted: _Request, handle: str) -> list[bytes]:
    names = [operation.key for operation in wanted.operations]
    keys = [tools.vault.item_key(wanted.kind, wanted.realm.name, handle, name) for name in names]
    return [*keys, wanted.item]


def _request(
    tools: Tools, realm: Realm, caller: str, kind: bytes, operations: Sequence[Operation], verb: str, request_id: str
) -> _Request:
    item = (REQUEST if kind == DATA else SHARED_REQUEST) + pseudonyms.request_name(
        tools.keyring, realm.name, caller, verb, request_id
    )
    # It is kept sealed: what was set cannot be guessed from it.
    body = [(o.key, o.set.hex() if o.set is not None else None, o.add, o.once, o.if_version) for o in operations]
    digest = hashlib.sha256(json.dumps(body).encode()).hexdigest()
    return _Request(realm, kind, operations, item, digest)
