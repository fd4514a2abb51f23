"""A warm answer is the one that would be made now, whatever happened in between: compared with a cold servicer over the
same store. And what is kept is bounded, and no failure and no token is among it."""

import os
import random
from dataclasses import dataclass

import pytest

from libs.paging.paging import PageTokens
from services.session.conformance.harness import STORES, over
from services.session.conformance.verbs import rotate, step_up
from services.session.domain.errors import SessionInvalid
from services.session.domain.guesses import Guesses, GuessLimits
from services.session.domain.policy import MINUTE, Caller
from services.session.domain.quotas import Limits, Quotas
from services.session.domain.revoking import erase_subject, revoke_handle, revoke_realm, revoke_subject
from services.session.servicer import SessionsServicer
from wellspring.session.v1 import session_pb2 as pb

each = pytest.mark.parametrize("store", STORES)


@dataclass
class By:
    identity: str = "app"


def servicer(s, warm):
    clock = s.clock
    pages, guesses = PageTokens([bytes(32)], clock), Guesses(GuessLimits(), clock.monotonic, bytes)
    quotas = Quotas(Limits(), clock.monotonic, bytes)
    return SessionsServicer(s.tools, pages, guesses, quotas, failure_floor_s=0.0, gone_after_us=1, warm_sessions=warm)


async def asked(one, token, by=None, **more):
    try:
        request = pb.ValidateRequest(realm="web", token=pb.Secret(value=token), **more)
        return (await one.Validate(request, by or By())).SerializeToString(deterministic=True)
    except SessionInvalid:
        return "SESSION_INVALID"


STEPS = {
    "touch": lambda s, rng, m: None,
    "minute": lambda s, rng, m: s.clock.sleep(rng.choice([1, 30, 59, 61, 600])),
    "hour": lambda s, rng, m: s.clock.sleep(rng.choice([3599, 3601, 40_000])),
    "rotate": lambda s, rng, m: rotate(s, m.token),
    "renew": lambda s, rng, m: rotate(s, m.token, privilege=True),
    "step up": lambda s, rng, m: step_up(s, m.token, level=rng.choice([2, 3])),
    "revoke": lambda s, rng, m: revoke_handle(s.tools, s.realm(), "op", m.session.handle),
    "revoke subject": lambda s, rng, m: revoke_subject(s.tools, s.realm(), "op", f"u{rng.randrange(3)}"),
    "erase": lambda s, rng, m: erase_subject(s.tools, s.realm(), "op", f"u{rng.randrange(3)}"),
    "revoke realm": lambda s, rng, m: revoke_realm(s.tools, s.realm(), "op"),
    "policy": lambda s, rng, m: s.set_policy(rotation_interval_us=rng.randrange(1, 90) * MINUTE),
    "prune": lambda s, rng, m: s.tools.store.prune(s.tools.clock.now_us(), 100),
}
WEIGHTS = [8, 6, 1, 4, 2, 2, 2, 1, 1, 1, 1, 1]


@each
def test_a_warm_answer_is_the_cold_one_whatever_happened_in_between(store):
    seed = int(os.environ.get("WELLSPRING_SEED", "0")) or random.SystemRandom().randrange(2**32)
    print(f"WELLSPRING_SEED={seed} repeats this")

    async def test(s):
        rng = random.Random(seed)
        warm, cold = servicer(s, 1000), servicer(s, 0)
        minted = [await s.create(f"u{n % 3}") for n in range(9)]
        hits = 0
        for _ in range(250):
            if rng.random() < 0.5:
                minted.append(await s.create(f"u{rng.randrange(3)}", level=rng.choice([1, 2, 3])))
            name = rng.choices(list(STEPS), WEIGHTS)[0]
            work = STEPS[name](s, rng, rng.choice(minted[-12:]))
            if work is not None:
                try:
                    made = await work
                except SessionInvalid:
                    made = None
                if hasattr(made, "token"):
                    minted.append(made)
            for one in rng.sample(minted[-12:], 6):
                touch = name == "touch"
                kept = len(warm._warm)
                answers = [await asked(warm, one.token, touch=touch), await asked(cold, one.token)]
                assert answers[0] == answers[1], name
                hits += answers[0] != "SESSION_INVALID" and len(warm._warm) == kept
        assert hits > 10 and len(cold._warm) == 0

    over(store, test)


@each
def test_a_warm_answer_reads_no_session_and_a_revocation_cuts_it_short(store):
    async def test(s):
        warm = servicer(s, 10)
        made = await s.create()
        reads = []
        read = s.tools.store.read

        async def counted(*args, **more):
            reads.append(1)
            return await read(*args, **more)

        s.tools.store.read = counted
        first = await asked(warm, made.token)
        for _ in range(50):
            assert await asked(warm, made.token) == first
        assert len(reads) == 1
        assert await asked(warm, made.token, by=By("other")) != first, "each caller has its own form of the subject"
        await revoke_handle(s.tools, s.realm(), "op", made.session.handle)
        assert await asked(warm, made.token) == "SESSION_INVALID"
        two = await s.create("bob")
        await asked(warm, two.token)
        await s.set_policy(callers=(Caller("nobody", ("*",)),))
        with pytest.raises(Exception, match="no such realm"):
            await asked(warm, two.token)

    over(store, test)


@each
def test_a_touch_that_is_due_is_written_and_one_that_is_not_is_not(store):
    async def test(s):
        warm = servicer(s, 10)
        made = await s.create()
        for _ in range(20):
            await asked(warm, made.token, touch=True)
        assert (await s.tools.store.read("web", made.session.handle)).session.revision == 1
        await s.clock.sleep(61)
        for _ in range(20):
            await asked(warm, made.token, touch=True)
        assert (await s.tools.store.read("web", made.session.handle)).session.revision == 2

    over(store, test)


@each
def test_what_is_kept_is_bounded_and_no_failure_or_token_is_among_it(store):
    async def test(s):
        warm = servicer(s, 5)
        made = [await s.create(f"u{n}") for n in range(20)]
        for one in made:
            await asked(warm, one.token)
        assert len(warm._warm) == 5
        await revoke_realm(s.tools, s.realm(), "op")
        for one in made:
            assert await asked(warm, one.token) == "SESSION_INVALID"
        assert len(warm._warm) == 0
        fresh = await s.create("x", data={"n": b"1"})
        await asked(warm, fresh.token, data_keys=["*"])
        await asked(warm, fresh.token, assertion_audience="a")
        assert len(warm._warm) == 0, "an answer with data or an assertion is made each time"
        await asked(warm, fresh.token)
        held = repr([list(key) for key in warm._warm._kept]).encode() + repr(list(warm._warm._kept.values())).encode()
        assert fresh.token not in held and fresh.token.split(b".")[1] not in held

    over(store, test)
