"""Whatever is wrong with a token, the same is done: counted, for a clock would tell little and fail often."""

import ast
import hmac
import inspect

import pytest

from services.session.conformance.harness import STORES, over
from services.session.conformance.verbs import refused, rotate
from services.session.crypto import dpop, tokens
from services.session.domain import bearer, family
from services.session.domain.revoking import revoke_handle, revoke_subject

each = pytest.mark.parametrize("store", STORES)
SECRETS = {"verifier", "half", "tag", "secret", "thumbprint", "ath"}
"""Names of what a guess is compared with."""


def compared(module):
    """Names that are compared by == or != in a module, with the function that does it."""
    for function in ast.walk(ast.parse(inspect.getsource(module))):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Compare) and any(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops):
                for side in [node.left, *node.comparators]:
                    name = side.attr if isinstance(side, ast.Attribute) else getattr(side, "id", "")
                    yield function.name, name


@pytest.mark.parametrize("module", [tokens, dpop, bearer, family], ids=lambda module: module.__name__)
def test_ses_04_no_secret_is_compared_but_in_constant_time(module):
    # These compare what is stored with what is stored: nothing that a stranger sends.
    of_the_store = {("retried", "verifier"), ("minted_again", "verifier"), ("<genexpr>", "verifier")}
    found = {(function, name) for function, name in compared(module) if name in SECRETS}
    assert found <= of_the_store


class Counted:
    """Counts reads of the store, HMACs and constant-time comparisons."""

    def __init__(self, s, monkeypatch):
        self.s = s
        self.steps = []
        self._watch(monkeypatch, s.tools.store, "read")
        self._watch(monkeypatch, tokens, "verifier")
        self._watch(monkeypatch, hmac, "compare_digest")

    def _watch(self, monkeypatch, owner, name):
        original = getattr(owner, name)

        def counted(*args, **kwargs):
            self.steps.append(name)
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, counted)

    async def of(self, token):
        self.steps.clear()
        error = await refused(self.s, token)
        return sorted(self.steps), (error.code, error.reason, error.message, error.metadata)


@each
def test_ses_04_every_failure_takes_the_same_steps_and_gives_the_same_answer(store, monkeypatch):
    async def test(s):
        revoked, expired, erased, good = [await s.create(f"u{n}", level=3) for n in range(4)]
        idle = await s.create("idle", level=3)
        await revoke_handle(s.tools, s.realm(), "op", revoked.session.handle)
        await revoke_subject(s.tools, s.realm(), "op", "u2")
        parsed = tokens.parse(good.token)
        wrong = tokens.remint(s.tools.keyring, parsed, s.rng.randbytes)[1]
        unknown = tokens.mint(s.tools.keyring, "web", 7, s.rng.randbytes)[1]
        counted = Counted(s, monkeypatch)
        seen = {
            "unknown": await counted.of(unknown),
            "wrong secret": await counted.of(wrong),
            "revoked": await counted.of(revoked.token),
            "subject revoked": await counted.of(erased.token),
        }
        await s.clock.sleep(901)
        seen |= {"idle": await counted.of(idle.token), "expired": await counted.of(expired.token)}
        assert len({str(one) for one in seen.values()}) == 1, seen
        steps, _ = seen["unknown"]
        assert steps == ["compare_digest", "compare_digest", "read", "verifier"]

    over(store, test)


@each
def test_ses_04_a_token_is_compared_with_every_verifier_whichever_fits(store, monkeypatch):
    async def test(s):
        made = await s.create()
        family_of = [await rotate(s, made.token), await rotate(s, made.token), await rotate(s, made.token)]
        counted = Counted(s, monkeypatch)
        steps = []
        for one in family_of:
            counted.steps.clear()
            await bearer.identify(s.tools, s.realm(), one.token, caller="app")
            steps.append(sorted(counted.steps))
        assert steps[0] == steps[1] == steps[2] and steps[0].count("compare_digest") == 5

    over(store, test)
