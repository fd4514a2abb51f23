"""Data of sessions, over every store: by key, by version, by request."""

import pytest

from services.session.conformance.harness import STORES, over
from services.session.conformance.verbs import data, rotate, update, valid
from services.session.domain import revoking, updating, validating
from services.session.domain.errors import (
    DataTooLarge,
    RequestReused,
    SessionNotFound,
    VersionMismatch,
)
from services.session.domain.operations import Operation
from services.session.domain.policy import DAY
from services.session.domain.sweeping import Sweeper

pytestmark = pytest.mark.parametrize("store", STORES)


def test_ses_13_data_by_key_with_compare_and_set(store):
    async def test(s):
        t = (await s.create(data={"a": b"1"})).token
        answer = await update(s, t, Operation("a", set=b"2", if_version=1), Operation("n", add=5))
        assert answer.versions == {"a": 2, "n": 1} and answer.counters == {"n": 5}
        with pytest.raises(VersionMismatch) as caught:
            await update(s, t, Operation("b", set=b"x"), Operation("a", set=b"3", if_version=1))
        assert caught.value.metadata == {"key": "a", "version": "2"}
        assert await data(s, t) == {"a": b"2", "n": b"5"}
        assert (await update(s, t, Operation("a"))).versions == {"a": 0}
        # A version never means two values, also when a key comes back.
        assert (await update(s, t, Operation("a", set=b"new", if_version=0))).versions == {"a": 3}
        await update(s, t, Operation("nonce", set=b"1", once=True))
        with pytest.raises(VersionMismatch):
            await update(s, t, Operation("nonce", set=b"1", once=True))

    over(store, test)


def test_an_update_asked_for_again_is_done_once(store):
    async def test(s):
        made, rid = await s.create(), s.uuid()
        first = await update(s, made.token, Operation("n", add=1), request_id=rid)
        assert await update(s, made.token, Operation("n", add=1), request_id=rid) == first
        with pytest.raises(RequestReused):
            await update(s, made.token, Operation("n", add=2), request_id=rid)
        # Also over a rotation that changed the data key.
        token = (await rotate(s, made.token, privilege=True)).token
        assert await update(s, token, Operation("n", add=1), request_id=rid) == first
        assert await data(s, token) == {"n": b"1"}

    over(store, test)


def test_ses_30_limits_of_data(store):
    async def test(s):
        await s.set_policy(max_data_bytes=100, max_data_keys=3)
        t = (await s.create(data={"a": b"x" * 40}, shared={"b": b"x" * 40})).token
        for wrong in ([Operation("c", set=b"x" * 20)], [Operation("c", set=b""), Operation("d", set=b"")]):
            with pytest.raises(DataTooLarge):
                await update(s, t, *wrong)
        await update(s, t, Operation("a"), Operation("c", set=b"x" * 50))
        with pytest.raises(DataTooLarge):
            await s.create(data={"a": b"x" * 100})
        # What is above a limit that was lowered may shrink.
        await s.set_policy(max_data_bytes=10, max_data_keys=1)
        await update(s, t, Operation("c", set=b"x" * 30))

    over(store, test)


def test_the_shared_compartment_by_handle(store):
    async def test(s):
        made = await s.create(data={"k": b"secret"}, shared={"flag": b"1"})
        handle, realm = made.session.handle, s.realm()
        got = await updating.update_shared(s.tools, realm, "app", handle, [Operation("flag", add=1)], s.uuid())
        assert got.counters == {"flag": 2}
        _, values = await validating.shared_values(s.tools, realm, "app", handle, ["*", "k"])
        assert {k: v.value for k, v in values.items()} == {"flag": b"2"}
        assert await data(s, made.token) == {"k": b"secret"}
        await revoking.revoke_token(s.tools, realm, "app", made.token)
        with pytest.raises(SessionNotFound):
            await updating.update_shared(s.tools, realm, "app", handle, [Operation("flag", add=1)], s.uuid())

    over(store, test)


def test_ses_28_a_thousand_reads_write_once_at_most(store):
    async def test(s):
        made = await s.create(data={"k": b"v"})
        await s.clock.advance(61)
        for _ in range(1000):
            await valid(s, made.token, touch=True, data_keys=["k"])
        row = (await s.tools.store.read("web", made.session.handle)).session
        assert row.revision == 2

    over(store, test)


@pytest.mark.parametrize("subject", ["alice", ""])
def test_a_subject_whose_key_the_store_let_go_begins_anew_with_another(store, subject):
    async def test(s):
        first = await s.create(subject)
        await update(s, first.token, Operation("k", set=b"v"))
        await revoking.revoke_handle(s.tools, s.realm(), "app", first.session.handle)
        sweeper = Sweeper(s.tools, 60_000_000, DAY)
        for _ in range(50):
            await s.clock.advance(3600)
            await sweeper.tick()
        second = await s.create(subject)
        await update(s, second.token, Operation("k", set=b"w"))
        assert await data(s, second.token) == {"k": b"w"}

    over(store, test)
