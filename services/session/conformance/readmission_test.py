"""After a realm was revoked as a whole: logins come back a share at a time, and who waits is told how long."""

import random

import pytest

from services.session.conformance.harness import STORES, over
from services.session.conformance.verbs import refused, step_up, valid
from services.session.domain.errors import Readmission
from services.session.domain.policy import HOUR, SECOND
from services.session.domain.revoking import revoke_realm

each = pytest.mark.parametrize("store", STORES)
WINDOW_S = 3600


async def admitted(s, subject, **more):
    """The session, or the seconds to wait."""
    try:
        return await s.create(subject, **more)
    except Readmission as error:
        assert 1 <= error.retry_after_s <= WINDOW_S
        return error.retry_after_s


@each
def test_the_share_of_those_let_in_grows_over_the_window(store):
    async def test(s):
        await s.set_policy(readmission_window_us=HOUR)
        before = await s.create("u1")
        await revoke_realm(s.tools, s.realm(), "op")
        await refused(s, before.token)
        names, shares = [f"u{n}" for n in range(200)], []
        for _ in range(5):
            got = [await admitted(s, name) for name in names]
            shares.append(sum(not isinstance(one, float) for one in got) / len(names))
            await s.clock.sleep(WINDOW_S / 4)
        assert shares == sorted(shares) and shares[0] <= 0.02 and shares[4] == 1
        for share, expected in zip(shares[1:4], (0.25, 0.5, 0.75), strict=True):
            assert abs(share - expected) < 0.15  # four standard deviations
        assert not isinstance(await admitted(s, "u1", realm="app"), float), "another realm is another's matter"

    over(store, test)


@each
def test_asking_often_gains_nothing_and_coming_back_when_told_is_enough(store):
    async def test(s):
        await s.set_policy(readmission_window_us=HOUR)
        await revoke_realm(s.tools, s.realm(), "op")
        waits = {}
        for _ in range(3):
            for n in range(30):
                wait = await admitted(s, f"u{n}")
                if isinstance(wait, float):
                    waits.setdefault(f"u{n}", []).append(wait)
        assert all(max(w) - min(w) < 1 for w in waits.values()) and len(waits) > 20
        now_s = 0.0
        for name, (wait, *_) in sorted(waits.items(), key=lambda item: item[1][0]):
            await s.clock.sleep(max(0.0, wait - now_s) + 0.001)
            now_s = max(now_s, wait)
            await valid(s, (await s.create(name)).token)

    over(store, test)


@each
def test_the_line_is_another_one_after_the_next_revocation_and_stands_over_a_restart(store):
    async def test(s):
        await s.set_policy(readmission_window_us=HOUR)

        async def line():
            got = [await admitted(s, f"u{n}") for n in range(40)]
            return [wait if isinstance(wait, float) else 0 for wait in got]

        await revoke_realm(s.tools, s.realm(), "op")
        first = await line()
        await s.tools.realms.load()
        again = await line()
        assert max(abs(a - b) for a, b in zip(first, again, strict=True)) < 1
        await s.clock.sleep(0.001)
        await revoke_realm(s.tools, s.realm(), "op")
        assert max(abs(a - b) for a, b in zip(first, await line(), strict=True)) > 60

    over(store, test)


@each
def test_visitors_wait_for_their_request_and_cannot_slip_in_by_stepping_up(store):
    async def test(s):
        visitor = await s.create("")
        await s.set_policy(readmission_window_us=HOUR)
        await revoke_realm(s.tools, s.realm(), "op")
        await refused(s, visitor.token)
        rng = random.Random(7)
        ids = [s.uuid() for _ in range(60)]
        got = [await admitted(s, "", request_id=rid) for rid in ids]
        waits = [wait for wait in got if isinstance(wait, float)]
        assert len(waits) > 50
        await s.clock.sleep(WINDOW_S / 2)
        got = [await admitted(s, "", request_id=rid) for rid in ids]
        let_in = [one for one in got if not isinstance(one, float)]
        assert 10 < len(let_in) < 50
        outcomes = set()
        for n, made in enumerate(let_in):
            try:
                await step_up(s, made.token, subject=f"s{n}-{rng.random()}")
                outcomes.add("in")
            except Readmission:
                outcomes.add("waits")
                await valid(s, made.token)
        assert outcomes == {"in", "waits"}

    over(store, test, max_sessions_per_subject=0)


@each
def test_without_a_window_all_come_back_at_once(store):
    async def test(s):
        await revoke_realm(s.tools, s.realm(), "op")
        for n in range(30):
            await s.create(f"u{n}")
        await s.set_policy(readmission_window_us=30 * SECOND)
        await revoke_realm(s.tools, s.realm(), "op")
        await s.clock.sleep(30)
        for n in range(30):
            await s.create(f"u{n}")

    over(store, test)
