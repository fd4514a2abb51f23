"""Sessions bound to a key of the client: the token alone is nothing, and a proof is good once."""

from dataclasses import replace

import pytest

from services.session.conformance import proving
from services.session.conformance.harness import STORES, over
from services.session.conformance.proving import URI, proof
from services.session.conformance.verbs import valid
from services.session.crypto.dpop_fakes import ClientKey
from services.session.crypto.nonces import STEP_S, is_fresh
from services.session.domain import rotating, updating, validating
from services.session.domain.creating import Assurance
from services.session.domain.errors import ProofNonceNeeded, ProofsBusy, SessionInvalid
from services.session.domain.operations import Operation
from services.session.domain.proofs import Proof, Proofs
from services.session.domain.revoking import revoke_others, revoke_token

each = pytest.mark.parametrize("store", STORES)


async def bound(s, key, subject="alice"):
    await s.clock.sleep(2)  # a proof must be younger than the process
    return await proving.bound(s, key, subject)


async def validate(s, token, given):
    return await validating.validate(s.tools, s.realm(), "app", token, data_keys=["n"], proof=given)


@each
@pytest.mark.parametrize("alg", ["ES256", "EdDSA"])
def test_ses_24_a_stolen_token_is_refused_by_every_verb_without_a_proof(store, alg):
    async def test(s):
        key, thief = ClientKey(alg), ClientKey(alg)
        made = await bound(s, key)
        tools, realm, token = s.tools, s.realm(), made.token
        assert (await validate(s, token, proof(s, key, token))).data["n"].value == b"1"
        for make in (lambda: None, lambda: proof(s, thief, token), lambda: proof(s, key, token, ath="x")):
            for call in (
                validate(s, token, make()),
                updating.update_data(tools, realm, "app", token, [Operation("n", add=1)], s.uuid(), make()),
                rotating.rotate(tools, realm, "app", token, privilege=False, request_id=s.uuid(), proof=make()),
                rotating.rotate(tools, realm, "app", token, privilege=True, request_id=s.uuid(), proof=make()),
                rotating.reauthenticate(tools, realm, "app", token, Assurance(2, (), 0), "", s.uuid(), make()),
                revoke_others(tools, realm, "app", token, make()),
            ):
                with pytest.raises(SessionInvalid):
                    await call
        assert (await validate(s, token, proof(s, key, token))).data["n"].value == b"1", "and nothing was changed"
        assert await revoke_token(tools, realm, "app", token) == 1, "ending it needs no proof"

    over(store, test)


@each
def test_ses_24_a_proof_is_good_once_and_a_retry_is_the_same_request(store):
    async def test(s):
        key = ClientKey()
        made = await bound(s, key)
        once = proof(s, key, made.token)
        again = Proof(once.jwt, once.method, once.uri)
        await validate(s, made.token, once)
        with pytest.raises(SessionInvalid):
            await validate(s, made.token, again)
        rid = s.uuid()
        rotation = proof(s, key, made.token, retry=f"Rotate app {rid}")
        for _ in range(2):
            one = Proof(rotation.jwt, rotation.method, rotation.uri, rotation.retry)
            child = await rotating.rotate(
                s.tools, s.realm(), "app", made.token, privilege=False, request_id=rid, proof=one
            )
        await validate(s, child.token, proof(s, key, child.token))
        for retry in ("", f"Rotate app {s.uuid()}", f"Rotate other {rid}"):
            with pytest.raises(SessionInvalid):
                await validate(s, made.token, Proof(rotation.jwt, rotation.method, rotation.uri, retry))

    over(store, test)


@each
def test_ses_24_a_proof_is_for_its_request_and_its_time(store):
    async def test(s):
        key = ClientKey()
        made = await bound(s, key)
        good = proof(s, key, made.token)
        for wrong in (Proof(good.jwt, "POST", URI), Proof(good.jwt, "GET", URI + "x")):
            with pytest.raises(SessionInvalid):
                await validate(s, made.token, wrong)
        await s.clock.sleep(61)
        with pytest.raises(SessionInvalid):
            await validate(s, made.token, good)
        # Another process may have seen what was made before this one began.
        fresh = proof(s, key, made.token)
        proofs = Proofs(s.tools.clock.now_us)
        with pytest.raises(SessionInvalid):
            await proofs.check(fresh, made.token, key.thumbprint)
        await s.clock.sleep(2)
        await proofs.check(proof(s, key, made.token), made.token, key.thumbprint)

    over(store, test)


@each
def test_ses_24_what_is_remembered_is_bounded_and_full_means_nobody(store):
    async def test(s):
        key = ClientKey("EdDSA")
        proofs = Proofs(s.tools.clock.now_us, most=10)
        made = await bound(s, key)
        seen = [proof(s, key, made.token) for _ in range(11)]
        for one in seen[:10]:
            await proofs.check(one, made.token, key.thumbprint)
        with pytest.raises(ProofsBusy):
            await proofs.check(seen[10], made.token, key.thumbprint)
        for one in seen[:10]:
            with pytest.raises(SessionInvalid):
                await proofs.check(Proof(one.jwt, one.method, one.uri), made.token, key.thumbprint)
        await s.clock.sleep(71)
        for _ in range(10):
            await proofs.check(proof(s, key, made.token), made.token, key.thumbprint)

    over(store, test)


@each
def test_ses_24_the_binding_outlives_rotation_step_up_and_a_new_process(store):
    async def test(s):
        key = ClientKey()
        made = await bound(s, key, subject="")
        child = await rotating.reauthenticate(
            s.tools,
            s.realm(),
            "app",
            made.token,
            Assurance(2, ("otp",), 0),
            "alice",
            s.uuid(),
            proof(s, key, made.token),
        )
        assert child.session.bind == key.thumbprint
        with pytest.raises(SessionInvalid):
            await validate(s, child.token, None)
        assert (await validate(s, child.token, proof(s, key, child.token))).data["n"].value == b"1"
        free = await s.create()
        await valid(s, free.token, proof=proof(s, key, free.token))  # it is not asked for one

    over(store, test)


@each
def test_ses_25_a_branch_that_was_left_behind_is_told(store):
    async def test(s):
        made = await s.create()
        tools, realm = s.tools, s.realm()

        async def rotate(token):
            return await rotating.rotate(tools, realm, "app", token, privilege=False, request_id=s.uuid())

        tab, copy = await rotate(made.token), await rotate(made.token)
        assert not s.events.of("orphaned_branch"), "two children of one parent are two tabs"
        await valid(s, tab.token)
        await valid(s, copy.token)
        newer = await rotate(tab.token)
        told = s.events.of("orphaned_branch")
        assert told == [{"realm": "web", "handle": made.session.handle, "caller": "app", "branches": 1}], (
            "one went on: the other is told, before any theft"
        )
        await valid(s, copy.token)
        assert not s.events.of("session_theft")
        await s.clock.sleep(60)
        with pytest.raises(SessionInvalid):
            await rotate(copy.token)
        assert s.events.of("session_theft")
        with pytest.raises(SessionInvalid):
            await valid(s, newer.token)

    over(store, test)


@each
@pytest.mark.parametrize("alg", ["ES256", "EdDSA"])
def test_ses_24_a_realm_with_nonces_refuses_proofs_without_a_fresh_one_and_tells_it_to_nobody_else(store, alg):
    async def test(s):
        await s.set_policy(proof_nonces=True)
        key, thief = ClientKey(alg), ClientKey(alg)
        made = await bound(s, key)
        token = made.token

        async def told(given):
            with pytest.raises(ProofNonceNeeded) as caught:
                await validate(s, token, given)
            return caught.value.metadata["nonce"]

        nonce = await told(proof(s, key, token))
        for _ in range(2):
            assert (await validate(s, token, proof(s, key, token, nonce=nonce))).data["n"].value == b"1"
        for wrong in (nonce[:-1], "", "x" * 22, "\ud800"):
            assert await told(proof(s, key, token, nonce=wrong)) == nonce
        once = proof(s, key, token)
        jwt = once.jwt
        assert await told(once) == nonce
        assert await told(Proof(jwt, "GET", URI)) == nonce, "a proof that was not taken is not spent"
        # Whoever lacks token or key hears what everybody hears.
        for given in (None, proof(s, thief, token), proof(s, key, token, nonce=5), proof(s, key, token, ath="x")):
            with pytest.raises(SessionInvalid):
                await validate(s, token, given)
        with pytest.raises(SessionInvalid):
            await validate(s, (await bound(s, thief, "bob")).token, proof(s, key, token, nonce=nonce))
        spent = proof(s, key, token, nonce=nonce)
        await validate(s, token, spent)
        with pytest.raises(SessionInvalid):
            await validate(s, token, Proof(spent.jwt, "GET", URI))
        # Each verb wants it.
        for call in (
            rotating.rotate(
                s.tools, s.realm(), "app", token, privilege=True, request_id=s.uuid(), proof=proof(s, key, token)
            ),
            updating.update_data(
                s.tools, s.realm(), "app", token, [Operation("n", add=1)], s.uuid(), proof(s, key, token)
            ),
            revoke_others(s.tools, s.realm(), "app", token, proof(s, key, token)),
        ):
            with pytest.raises(ProofNonceNeeded):
                await call
        await s.clock.sleep(STEP_S)
        await validate(s, token, proof(s, key, token, nonce=nonce))
        await s.clock.sleep(STEP_S)
        later = await told(proof(s, key, token, nonce=nonce))
        assert later != nonce
        await validate(s, token, proof(s, key, token, nonce=later))
        # Of another realm it is none.
        await s.tools.realms.update("app", replace(s.realm("app").policy, proof_nonces=True), "")
        assert not is_fresh(s.tools.keyring, "app", later, s.clock.time_ns() / 1e9)
        await s.set_policy(proof_nonces=False)
        await validate(s, token, proof(s, key, token))

    over(store, test)
