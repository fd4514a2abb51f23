"""SES-26: assertions are checked without a call, and a corpus of bad ones is refused, each for its own reason."""

import asyncio
import hashlib
import hmac
import json
import random
import subprocess
import sys

import pytest

from libs.clock.virtual import VirtualClock
from wellspring.session.v1 import session_pb2 as pb
from wellspring_client.assertions import TYPE, Assertions
from wellspring_client.assertions_fakes_test import GOOD, HEADER, KEY, NOW_S, OTHER, Published, b64, but, public, signed
from wellspring_client.errors import AssertionInvalid, ServerFault, Unavailable
from wellspring_client.key_set import KeySet


def on_virtual_time(test):
    clock = VirtualClock(NOW_S * 10**9)
    return clock.run(test(clock))


def verify(assertion, **settings):
    async def main(clock):
        keys = KeySet(Published().fetch)
        given = {"audience": "cart", "realm": "web", "wall_ns": lambda: NOW_S * 10**9, **settings}
        return await Assertions(keys, **given).verify(assertion)

    return on_virtual_time(main)


def test_ses_26_a_good_assertion_says_who_and_how_surely():
    claims = verify(signed())
    assert (claims.subject, claims.level, claims.methods) == ("pairwise", 2, ("pwd", "otp"))
    assert claims.handle_hash == bytes(32) and claims.expires_s == NOW_S + 50
    nobody = verify(signed(but(sub=None, acr=None, amr=None, auth_time=None)))
    assert (nobody.subject, nobody.level, nobody.methods) == ("", 0, ())


def hs256():
    """Signed with the public key as if it were a shared secret."""
    head = {"alg": "HS256", "typ": TYPE, "kid": "k1"}
    text = ".".join(b64(json.dumps(part).encode()) for part in (head, GOOD))
    return f"{text}.{b64(hmac.digest(public(KEY), text.encode(), hashlib.sha256))}"


def unsigned(alg):
    text = ".".join(b64(json.dumps(part).encode()) for part in ({**HEADER, "alg": alg}, GOOD))
    return f"{text}."


def twice(name, value):
    text = json.dumps(GOOD)
    return f'{text[:-1]}, "{name}": {json.dumps(value)}}}'.encode()


MISSING = {f"no {name}": (signed(but(**{name: None})), f"claim {name}") for name in GOOD if name != "sid"}
BAD = {
    "alg none": (unsigned("none"), "algorithm"),
    "alg None in other letters": (unsigned("nOnE"), "algorithm"),
    "alg of letters alike": (signed(header={**HEADER, "alg": "eddsa"}), "algorithm"),
    "HS256 with the public key": (hs256(), "algorithm"),
    "no signature": (unsigned("EdDSA"), "not one of Ed25519"),
    "another type": (signed(header={**HEADER, "typ": "JWT"}), "type"),
    "no type": (signed(header={"alg": "EdDSA", "kid": "k1"}), "type"),
    "a key of its own": (signed(header={**HEADER, "jwk": {"kty": "OKP"}}, key=OTHER), "more in it"),
    "an address of keys": (signed(header={**HEADER, "jku": "https://evil.example/keys"}, key=OTHER), "more in it"),
    "a critical extension": (signed(header={**HEADER, "crit": ["b64"], "b64": False}), "more in it"),
    "no key": (signed(header={"alg": "EdDSA", "typ": TYPE}), "no key"),
    "a key that is a path": (signed(header={**HEADER, "kid": "../../dev/null"}), "does not publish"),
    "a key that is no text": (signed(header={**HEADER, "kid": 1}), "no key"),
    "a key of another kind": (signed(header={**HEADER, "kid": "old"}), "does not publish"),
    "a foreign key": (signed(header={**HEADER, "kid": "k9"}, key=OTHER), "does not publish"),
    "the signature of another key": (signed(key=OTHER), "does not fit"),
    "the signature of another assertion": (
        f"{signed(but(sub='x')).rpartition('.')[0]}.{signed().split('.')[2]}",
        "fit",
    ),
    "another audience": (signed(but(aud="shop")), "another audience"),
    "a list of audiences": (signed(but(aud=["cart"])), "claim aud"),
    "another realm": (signed(but(realm="app")), "another realm"),
    "another issuer": (signed(but(iss="https://evil.example")), "not the session service's"),
    "expired": (signed(but(iat=NOW_S - 66, exp=NOW_S - 6)), "expired"),
    "not yet": (signed(but(iat=NOW_S + 6, exp=NOW_S + 30)), "not good yet"),
    "not before": (signed(but(nbf=NOW_S + 6)), "not good yet"),
    "too long": (signed(but(iat=NOW_S - 10, exp=NOW_S + 51)), "longer than 60"),
    "ends before it begins": (signed(but(exp=NOW_S - 11)), "or not at all"),
    "time in a string": (signed(but(exp=str(NOW_S + 50))), "claim exp"),
    "time that is true": (signed(but(iat=True)), "claim iat"),
    "time with a fraction": (signed(but(exp=NOW_S + 0.5)), "claim exp"),
    "time without end": (signed(json.dumps(GOOD).replace(str(NOW_S + 50), "Infinity").encode()), "no JSON"),
    "no session": (signed(but(sid=None)), "claim sid"),
    "half a session": (signed(but(sid=b64(bytes(16)))), "hash of a handle"),
    "level 9": (signed(but(acr="9")), "level"),
    "a subject without a level": (signed(but(acr=None)), "claim acr"),
    "a level without a subject": (signed(but(sub=None)), "claim sub"),
    "an empty subject": (signed(but(sub="")), "claim sub"),
    "methods in a string": (signed(but(amr="pwd")), "claim amr"),
    "a claim twice": (signed(twice("sub", "admin")), "twice"),
    "an audience twice": (signed(twice("aud", "cart")), "twice"),
    "a header twice": (signed(header=b'{"alg":"none","alg":"EdDSA","typ":"%b","kid":"k1"}' % TYPE.encode()), "twice"),
    "claims that are a list": (signed(b"[]"), "no JSON object"),
    "claims that are no JSON": (signed(b"{"), "no JSON"),
    "claims that are no text": (signed(b"\xff\xfe"), "no JSON"),
    "nested deep": (signed(b"[" * 2800), "no JSON"),
    "empty": ("", "three parts"),
    "two parts": (signed().rpartition(".")[0], "three parts"),
    "five parts, encrypted": (signed() + ".x.y", "three parts"),
    "truncated": (signed()[:-6], "not one of Ed25519"),
    "padded": (signed() + "==", "base64url"),
    "with a line's end": (signed() + "\n", "base64url"),
    "another spelling": (signed()[:-1] + {"A": "B", "Q": "R", "g": "h", "w": "x"}[signed()[-1]], "base64url"),
    "letters of no alphabet": ("é.é.é", "base64url"),
    "huge": (signed(but(jti="x" * 10_000)), "longer than"),
    **MISSING,
}


@pytest.mark.parametrize("name", BAD)
def test_ses_26_what_is_bad_is_refused(name):
    assertion, says = BAD[name]
    with pytest.raises(AssertionInvalid, match=says) as caught:
        verify(assertion)
    assert not assertion or len(assertion) < 30 or assertion[:30] not in str(caught.value)


def test_ses_26_no_byte_of_an_assertion_can_be_changed():
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    rng, good = random.Random(seed), signed()
    for _ in range(300):
        at = rng.randrange(len(good))
        changed = good[:at] + rng.choice("ABab01-_.") + good[at + 1 :]
        if changed != good:
            with pytest.raises(AssertionInvalid):
                verify(changed)


def test_times_hold_up_to_the_skew_and_no_further():
    edge = but(iat=NOW_S - 65, exp=NOW_S - 5)
    with pytest.raises(AssertionInvalid, match="expired"):
        verify(signed(edge), skew_s=5)
    assert verify(signed(edge), skew_s=5.5)
    assert verify(signed(but(iat=NOW_S + 5, exp=NOW_S + 30)), skew_s=5)
    with pytest.raises(AssertionInvalid):
        verify(signed(but(iat=NOW_S + 5, exp=NOW_S + 30)), skew_s=4)
    for wrong in ({"skew_s": 61}, {"skew_s": -1}, {"audience": ""}, {"realm": ""}):
        with pytest.raises(ValueError):
            verify(signed(), **wrong)
    with pytest.raises(AssertionInvalid, match="not believed"):
        verify(signed(), issuers=["wellspring-session/eqiad"])
    assert verify(signed(), issuers=["wellspring-session/local"])


def test_keys_are_kept_as_long_as_allowed_and_fetched_for_an_unknown_one_now_and_then():
    async def main(clock):
        published = Published(max_age_s=100)
        keys = KeySet(published.fetch, refetch_s=5)
        data, mine, foreign = b"d", KEY.sign(b"d"), OTHER.sign(b"d")
        assert await asyncio.gather(*(keys.verifies("k1", mine, data) for _ in range(20))) == [True] * 20
        assert published.asked == 1
        for _ in range(500):
            assert await keys.verifies("k2", foreign, data) is None
        assert published.asked == 1, "unknown keys at once must not become calls"
        await asyncio.sleep(5.1)
        published.keys = {"k1": KEY, "k2": OTHER}
        assert await keys.verifies("k2", foreign, data) is True
        assert await keys.verifies("k1", foreign, data) is False
        assert published.asked == 2
        # A key that is gone is not believed for longer than the age allows.
        published.keys = {"k2": OTHER}
        await asyncio.sleep(51)
        assert await keys.verifies("k1", mine, data) is None and published.asked == 3

    on_virtual_time(main)


def test_keys_that_cannot_be_fetched_are_unavailable_and_never_invalid():
    async def main(clock):
        published = Published(max_age_s=100)
        published.failure = Unavailable("nobody answers")
        keys = KeySet(published.fetch, refetch_s=5)
        for _ in range(3):
            with pytest.raises(Unavailable, match="nobody answers"):
                await keys.verifies("k1", KEY.sign(b"d"), b"d")
        assert published.asked == 1
        published.failure = None
        await asyncio.sleep(6)
        assert await keys.verifies("k1", KEY.sign(b"d"), b"d")
        published.failure = ServerFault("broken")
        await asyncio.sleep(90)
        assert await keys.verifies("k1", KEY.sign(b"d"), b"d"), "good for its whole age"
        with pytest.raises(Unavailable):
            await keys.verifies("k2", OTHER.sign(b"d"), b"d")
        await asyncio.sleep(11)
        with pytest.raises(Unavailable, match="broken"):
            await keys.verifies("k1", KEY.sign(b"d"), b"d")

    on_virtual_time(main)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"keys": 1}', '{"keys": [{"kty": "OKP", "crv": "Ed25519"}]}'])
def test_a_key_set_that_is_none_is_unavailable(text):
    async def main(clock):
        async def fetch():
            return pb.GetKeySetResponse(jwks_json=text)

        with pytest.raises(Unavailable, match="RFC 7517"):
            await KeySet(fetch).verifies("k1", KEY.sign(b"d"), b"d")

    on_virtual_time(main)


def test_the_package_is_asked_for_where_assertions_are_checked_only():
    program = """
import sys
sys.modules["cryptography"] = None
import wellspring_client, wellspring_client.verifier, wellspring_client.asgi, wellspring_client.grpc_interceptor
try:
    import wellspring_client.assertions
except ImportError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "pip install cryptography" in done.stdout
