"""Who may do what: credentials, certificates, a realm's own list, guesses."""

import ssl
from hashlib import sha256

import aiohttp
import pytest

from libs.rpc.testing.certificates import Authority
from services.session.domain.guesses import GuessLimits
from services.session.domain.policy import Caller
from services.session.domain.quotas import Limits
from services.session.kask.callers import Rule
from services.session.kask.rig import BASE, SECRET, problem, served


def test_SES_18_callers_by_credential():
    known = sha256(SECRET.encode()).digest(), sha256(b"r" * 40).digest()

    async def test(call):
        def bearer(secret):
            return {"headers": {"Authorization": f"Bearer {secret}"}}

        assert (await call.key("POST", "k", b"v", **bearer(SECRET)))[0] == 201
        assert (await call.key("GET", "k", **bearer("r" * 40)))[0] == 200
        problem(await call.key("POST", "k", b"v", **bearer("r" * 40)), 403)
        problem(await call.key("DELETE", "k", **bearer("r" * 40)), 403)
        for shown in (
            {},
            bearer("x" * 40),
            bearer(""),
            bearer(SECRET[:-1]),
            {"headers": {"Authorization": f"Basic {SECRET}"}},
            {"headers": {"Authorization": SECRET}},
            {"headers": [("Authorization", f"Bearer {SECRET}"), ("Authorization", "Bearer x")]},
        ):
            for method, path in (("GET", BASE + "k"), ("POST", BASE + "k"), ("GET", "/metrics"), ("GET", "/openapi"),
                                 ("GET", "/x"), ("PATCH", BASE + "k")):  # fmt: skip
                answer = await call(method, path, b"v" if method == "POST" else None, **shown)
                problem(answer, 401)
                assert answer[2]["WWW-Authenticate"] == "Bearer"
            assert (await call("GET", "/healthz", **shown))[0] == 200
        assert (await call("GET", "/metrics", **bearer("r" * 40)))[0] == 200
        assert not [text for text in call.seen if b"canary-credential" in text]

    rules = [Rule("credential:mw", frozenset("*")), Rule("credential:reader", frozenset(["GET"]))]
    served(test, rules=rules, credentials=dict(zip(known, ("credential:mw", "credential:reader"), strict=True)))


def test_the_realm_has_its_own_list_of_callers():
    async def test(call):
        assert (await call.key("POST", "k", b"v"))[0] == 201
        problem(await call.key("DELETE", "k"), 403)

    served(test, policy={"callers": (Caller("anonymous", ("POST", "GET")),)})


def test_SES_20_guesses_of_credentials_are_limited_and_the_known_are_served():
    async def test(call):
        good = {"headers": {"Authorization": f"Bearer {SECRET}"}}
        statuses = [(await call.key("GET", "k", headers={"Authorization": "Bearer x"}))[0] for _ in range(8)]
        assert statuses[:5] == [401] * 5 and 429 in statuses
        assert (await call.key("POST", "k", b"v", **good))[0] == 201

    served(
        test,
        rules=[Rule("credential:mw", frozenset("*"))],
        credentials={sha256(SECRET.encode()).digest(): "credential:mw"},
        guesses=GuessLimits(per_address=5),
    )


def test_a_caller_has_its_share_of_a_second_and_others_theirs():
    async def test(call):
        busy, idle = ({"headers": {"Authorization": f"Bearer {c * 40}"}} for c in "ab")
        statuses = [(await call.key("GET", "k", **busy))[0] for _ in range(8)]
        assert statuses == [404] * 5 + [429] * 3
        answer = await call.key("GET", "k", **busy)
        problem(answer, 429)
        assert int(answer[2]["Retry-After"]) >= 1
        assert (await call.key("POST", "k", b"v", **idle))[0] == 201
        assert (await call("GET", "/healthz", **busy))[0] == 200

    credentials = {sha256(c.encode() * 40).digest(): f"credential:{c}" for c in "ab"}
    rules = [Rule("credential:*", frozenset("*"))]
    served(test, rules=rules, credentials=credentials, quotas=Limits(per_caller=5))


def test_SES_18_callers_by_certificate(tmp_path):
    authority, stranger = Authority(), Authority("another")
    certificate, key = authority.issue("front", addresses=("127.0.0.1",)).write(tmp_path, "front")
    (tmp_path / "ca.crt").write_bytes(authority.pem)
    tls = {"certificate_file": certificate, "key_file": key, "client_ca_file": str(tmp_path / "ca.crt")}

    def client(issued, name):
        context = ssl.create_default_context(cadata=authority.pem.decode())
        if issued is not None:
            context.load_cert_chain(*issued.write(tmp_path, name))
        return context

    async def test(call):
        call.tls = client(authority.issue(uris=("spiffe://x/wiki/1",)), "wiki")
        assert (await call.key("POST", "k", b"v"))[0] == 201
        call.tls = client(authority.issue("reader"), "reader")
        assert (await call.key("GET", "k"))[1] == b"v"
        problem(await call.key("DELETE", "k"), 403)
        call.tls = client(authority.issue(uris=("spiffe://x/other",)), "other")
        problem(await call.key("GET", "k"), 403)
        assert (await call("GET", "/healthz"))[0] == 200
        call.tls = client(authority.issue(uris=("spiffe://x/wiki/1", "spiffe://x/wiki/2")), "two")
        problem(await call.key("GET", "k"), 401)
        for issued in (None, stranger.issue(uris=("spiffe://x/wiki/1",))):
            call.tls = client(issued, "none")
            with pytest.raises((aiohttp.ClientError, ConnectionError)):
                await call.key("GET", "k")

    rules = [Rule("spiffe://x/wiki/*", frozenset("*")), Rule("cn:reader", frozenset(["GET"]))]
    served(test, rules=rules, config={"tls": tls, "callers": [{"identity": "cn:reader"}]})
