"""Calls at once: every order of steps that a seed gives, because the store hands over at each of its calls."""

import asyncio
import inspect
import random

import pytest

from services.session.conformance.harness import opened, service
from services.session.domain import revoking, rotating, updating, validating
from services.session.domain.creating import Assurance, Minted
from services.session.domain.errors import SessionInvalid, SessionLimit, VersionMismatch
from services.session.domain.operations import Operation
from services.session.domain.policy import Limit
from services.session.store.memory import MemoryStore

SEEDS = range(30)


class Yielding:
    """A store that lets others run before and after what it is asked."""

    def __init__(self, store, rng):
        self._store = store
        self._rng = rng

    def __getattr__(self, name):
        method = getattr(self._store, name)
        if not inspect.iscoroutinefunction(method):
            return method

        async def slowly(*args, **kwargs):
            for _ in range(self._rng.randrange(3)):
                await asyncio.sleep(0)
            result = await method(*args, **kwargs)
            for _ in range(self._rng.randrange(3)):
                await asyncio.sleep(0)
            return result

        return slowly


def over_seeds(test):
    for seed in SEEDS:

        async def main(seed=seed):
            await test(await service(Yielding(MemoryStore(), random.Random(seed)), seed=seed))

        try:
            asyncio.run(main())
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise


async def update(s, token, *operations):
    return await updating.update_data(s.tools, s.realm(), "app", token, operations, s.uuid())


def test_ses_13_updates_of_different_keys_are_never_aborted():
    async def test(s):
        token = (await s.create()).token
        await asyncio.gather(*(update(s, token, Operation(f"k{i}", set=b"v")) for i in range(20)))
        found = await validating.validate(s.tools, s.realm(), "app", token, data_keys=["*"])
        assert sorted(found.data) == sorted(f"k{i}" for i in range(20))
        assert found.session.data_keys == 20

    over_seeds(test)


def test_ses_13_of_those_who_expect_one_version_one_wins():
    async def test(s):
        token = (await s.create(data={"k": b"0"})).token
        tries = [update(s, token, Operation("k", set=b"%d" % i, if_version=1)) for i in range(10)]
        results = await asyncio.gather(*tries, return_exceptions=True)
        assert sum(not isinstance(r, Exception) for r in results) == 1
        assert all(isinstance(r, VersionMismatch) for r in results if isinstance(r, Exception))
        counts = await asyncio.gather(*(update(s, token, Operation("n", add=1)) for _ in range(20)))
        assert sorted(c.counters["n"] for c in counts) == list(range(1, 21))

    over_seeds(test)


@pytest.mark.parametrize("limit", [Limit.REJECT, Limit.EVICT_OLDEST])
def test_ses_14_fifty_logins_at_once_leave_as_many_as_allowed(limit):
    async def test(s):
        await s.set_policy(max_sessions_per_subject=5, limit=limit)
        made = await asyncio.gather(*(s.create() for _ in range(50)), return_exceptions=True)
        good = 0
        for one in made:
            if isinstance(one, SessionLimit):
                continue
            try:
                await validating.validate(s.tools, s.realm(), "app", one.token)
                good += 1
            except SessionInvalid:
                continue
        assert good == 5

    over_seeds(test)


def test_ses_05_rotations_at_once_all_give_usable_tokens():
    async def test(s):
        made = await s.create(data={"k": b"v"})

        async def rotate():
            return await rotating.rotate(s.tools, s.realm(), "app", made.token, privilege=False, request_id=s.uuid())

        for child in await asyncio.gather(*(rotate() for _ in range(4))):
            found = await validating.validate(s.tools, s.realm(), "app", child.token, data_keys=["k"])
            assert found.data["k"].value == b"v"
        assert not s.events.of("session_theft")

    over_seeds(test)


def test_ses_10_whatever_runs_beside_a_revocation_nothing_is_left_alive():
    async def test(s):
        made = [await s.create("alice", data={"k": b"v"}) for _ in range(3)]
        tokens = [m.token for m in made]
        when = s.rng.randrange(20)

        async def work(token):
            for _ in range(6):
                verb = s.rng.randrange(4)
                try:
                    if verb == 0:
                        await update(s, token, Operation("k", set=b"w"))
                    elif verb == 1:
                        rid = s.uuid()
                        minted = await rotating.rotate(s.tools, s.realm(), "app", token, privilege=True, request_id=rid)
                        token = minted.token
                        tokens.append(token)
                    elif verb == 2:
                        minted = await rotating.reauthenticate(
                            s.tools, s.realm(), "app", token, Assurance(2, (), 0), "", s.uuid()
                        )
                        token = minted.token
                        tokens.append(token)
                    else:
                        await validating.validate(s.tools, s.realm(), "app", token, touch=True, data_keys=["*"])
                except SessionInvalid:
                    return

        async def revoke():
            for _ in range(when):
                await asyncio.sleep(0)
            if s.rng.random() < 0.5:
                await revoking.revoke_subject(s.tools, s.realm(), "app", "alice")
            else:
                for m in made:
                    await revoking.revoke_handle(s.tools, s.realm(), "app", m.session.handle)

        await asyncio.gather(*(work(m.token) for m in made), revoke())
        for token in tokens:
            with pytest.raises(SessionInvalid):
                await validating.validate(s.tools, s.realm(), "app", token)

    over_seeds(test)


@pytest.mark.parametrize("privilege", [False, True])
def test_ses_09_a_logout_beside_a_rotation_of_the_same_token_ends_the_session(privilege):
    async def test(s):
        made = await s.create()
        rotated = rotating.rotate(s.tools, s.realm(), "app", made.token, privilege=privilege, request_id=s.uuid())
        logout = revoking.revoke_token(s.tools, s.realm(), "app", made.token)
        child, ended = await asyncio.gather(rotated, logout, return_exceptions=True)
        assert ended == 1
        assert isinstance(child, SessionInvalid | Minted)
        for token in [made.token, *([child.token] if isinstance(child, Minted) else [])]:
            with pytest.raises(SessionInvalid):
                await validating.validate(s.tools, s.realm(), "app", token)

    over_seeds(test)


def test_ses_09_a_session_made_beside_a_revoke_all_that_it_did_not_see_is_dead():
    async def test(s):
        async def create():
            before = (await s.tools.store.subject_epoch("web", b"")).counters
            del before
            return await s.create("alice")

        made, _ = await asyncio.gather(create(), revoking.revoke_subject(s.tools, s.realm(), "app", "alice"))
        row = (await s.tools.store.read("web", made.session.handle)).session
        live = row is not None and made.session.subject_stamp == (("local", 1),)
        try:
            await validating.validate(s.tools, s.realm(), "app", made.token)
            assert live
        except SessionInvalid:
            assert not live

    over_seeds(test)


def test_an_erasure_beside_logins_leaves_no_session_that_opens_with_a_destroyed_key():
    async def test(s):
        await s.create("alice", data={"k": b"v"})
        made, *_ = await asyncio.gather(
            s.create("alice", data={"k": b"v"}), revoking.erase_subject(s.tools, s.realm(), "app", "alice")
        )
        try:
            found = await validating.validate(s.tools, s.realm(), "app", made.token, data_keys=["k"])
            assert found.data["k"].value == b"v"
        except SessionInvalid:
            pass

    over_seeds(test)


def test_changes_on_the_disk_at_once_are_all_there():
    async def main():
        async with opened("embedded") as store:
            s = await service(store)
            made = await asyncio.gather(*(s.create(f"u{i % 7}") for i in range(60)))
            await asyncio.gather(*(update(s, m.token, Operation("n", add=1)) for m in made for _ in range(5)))
            for m in made:
                found = await validating.validate(s.tools, s.realm(), "app", m.token, data_keys=["n"])
                assert found.data["n"].value == b"5"

    asyncio.run(main())


def test_ses_09_a_login_after_a_revocation_of_all_stays_while_what_was_before_is_being_ended():
    async def test(s):
        await s.create()
        by_subject, later = s.tools.store._store.by_subject, []

        async def slowly(*args, **kwargs):
            if not later:
                later.append(await s.create())  # the epoch is raised, the sessions of before are looked for
            return await by_subject(*args, **kwargs)

        s.tools.store._store.by_subject = slowly
        assert await revoking.revoke_subject(s.tools, s.realm(), "app", "alice") == 1
        assert (await validating.validate(s.tools, s.realm(), "app", later[0].token)).session

    over_seeds(test)
