"""Proofs of possession: the good ones pass, and everything that an attacker can change about one does not."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.session.crypto import dpop
from services.session.crypto.dpop import ProofWrong
from services.session.crypto.dpop_fakes import ClientKey, b64

TOKEN, NOW_S = b"wss_web_x.y", 1_000_000.0
URI = "https://app.example/page"
each = pytest.mark.parametrize("alg", ["ES256", "EdDSA"])


def check(key, jwt, *, method="GET", uri=URI, token=TOKEN, thumbprint=None, now_s=NOW_S):
    return dpop.check(jwt, method, uri, token, thumbprint or key.thumbprint, now_s)


@each
def test_ses_24_a_proof_is_good_for_its_token_key_and_request(alg):
    key = ClientKey(alg)
    jwt = key.proof(TOKEN, NOW_S)
    assert dpop.is_formed(jwt)
    first = check(key, jwt)
    assert first.made_s == NOW_S and check(key, key.proof(TOKEN, NOW_S)).name != first.name
    for same in ("HTTPS://APP.example/page", "https://app.example:443/page"):
        assert check(key, jwt, uri=same) == first
    for wrong in (
        {"method": "POST"},
        {"method": "get"},
        {"uri": "https://app.example/other"},
        {"uri": "https://app.example:444/page"},
        {"uri": "http://app.example/page"},
        {"uri": URI + "?a=1"},
        {"uri": URI + "#f"},
        {"uri": "/page"},
        {"token": b"another"},
        {"thumbprint": ClientKey(alg).thumbprint},
        {"now_s": NOW_S + dpop.LIFE_S + 1},
        {"now_s": NOW_S - dpop.SKEW_S - 1},
    ):
        with pytest.raises(ProofWrong):
            check(key, jwt, **wrong)


@each
@pytest.mark.parametrize(
    "changed",
    [
        {"header": {"alg": "none"}},
        {"header": {"alg": "HS256"}},
        {"header": {"alg": "RS256"}},
        {"header": {"typ": "JWT"}},
        {"header": {"typ": "wss-assertion+jwt"}},
        {"header": {"crit": ["x"]}},
        {"header": {"jwk": None}},
        {"header": {"jwk": {"kty": "oct", "k": "AAAA"}}},
        {"header": {"jwk": {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}}},
        {"header": {"jwk": {"kty": "EC", "crv": "P-256", "x": b64(bytes(32)), "y": b64(bytes(32))}}},
        {"header": {"jwk": {"kty": "OKP", "crv": "Ed25519", "x": b64(bytes(32))}}},
        {"header": {"jwk": {"kty": "OKP", "crv": "Ed25519", "x": 1}}},
        {"ath": None},
        {"ath": ""},
        {"ath": "ÿ"},
        {"htm": None},
        {"htu": None},
        {"htu": "https://[app/page"},
        {"htu": "https://app.example:99999/page"},
        {"htu": "https://user@app.example/page"},
        {"iat": None},
        {"iat": "1000000"},
        {"iat": True},
        {"iat": float("nan")},
        {"jti": None},
        {"jti": ""},
        {"jti": "x" * 257},
        {"jti": 7},
    ],
    ids=str,
)
def test_ses_24_what_a_proof_may_not_say(alg, changed):
    key = ClientKey(alg)
    with pytest.raises(ProofWrong):
        check(key, key.proof(TOKEN, NOW_S, **changed))


@each
def test_ses_24_a_private_key_in_the_header_is_refused(alg):
    key = ClientKey(alg)
    with pytest.raises(ProofWrong):
        check(key, key.proof(TOKEN, NOW_S, header={"jwk": {**key.jwk, "d": b64(bytes(32))}}))


@each
def test_ses_24_a_signature_of_another_text_or_in_another_spelling_is_refused(alg):
    key = ClientKey(alg)
    head, body, signature = key.proof(TOKEN, NOW_S).split(".")
    other = key.proof(TOKEN, NOW_S).split(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    for jwt in (
        f"{head}.{other[1]}.{signature}",
        f"{head}.{body}.",
        f"{head}.{body}.{b64(bytes(64))}",
        f"{head}.{body}.{b64(raw[:-1])}",
        f"{head}.{body}.{b64(bytes([raw[0] ^ 1]) + raw[1:])}",
        f"{head}.{body}.{signature}=",
        f"{head}.{body}.{signature}.",
        f"{head}.{body}",
        "",
    ):
        with pytest.raises(ProofWrong):
            check(key, jwt)


@given(st.text(max_size=60))
def test_anything_else_is_not_formed_or_not_good(text):
    with pytest.raises(ProofWrong):
        check(ClientKey("EdDSA"), text, thumbprint=bytes(32))
    deep = b64(("[" * 100_000).encode())
    assert not dpop.is_formed(f"{deep}.{deep}.AA") and not dpop.is_formed(text + "." + b64(json.dumps([]).encode()))


def test_thumbprints_have_one_spelling():
    key = ClientKey()
    assert dpop.thumbprint_of(b64(key.thumbprint)) == key.thumbprint
    for text in ("", "x", b64(bytes(31)), b64(bytes(33)), b64(key.thumbprint) + "=", "é" * 43):
        assert dpop.thumbprint_of(text) is None
