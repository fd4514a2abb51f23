"""Allow-lists: what patterns match, and that nothing else is allowed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.auth import rules as rules_module
from libs.auth.options import AuthOptions
from libs.auth.rules import AllowList, RuleError

GET = "wellspring.storage.v1.Storage/Get"


def allows(identity_pattern: str, method_pattern: str, identity: str, method: str = GET) -> bool:
    return AllowList(AuthOptions(rules={identity_pattern: [method_pattern]})).allows(identity, method)


@pytest.mark.parametrize(
    ("pattern", "identity", "expected"),
    [
        ("spiffe://wiki/render", "spiffe://wiki/render", True),
        ("spiffe://wiki/render", "spiffe://wiki/render2", False),
        ("spiffe://wiki/render", "xspiffe://wiki/render", False),
        ("spiffe://wiki/*", "spiffe://wiki/render", True),
        ("spiffe://wiki/*", "spiffe://wiki/", True),
        ("spiffe://wiki/*", "spiffe://wiki/render/1", False),
        ("spiffe://wiki/**", "spiffe://wiki/render/1", True),
        ("spiffe://w.ki/*", "spiffe://wiki/render", False),
        ("spiffe://wiki/*", "spiffe://wiki/render\n", True),
        ("cn:render", "render", False),
        ("**", "anonymous", True),
        ("*", "spiffe://wiki/render", False),
        ("spiffe://wiki/(a|b)", "spiffe://wiki/a", False),
    ],
)
def test_patterns_of_identities(pattern: str, identity: str, expected: bool) -> None:
    assert allows(pattern, GET, identity) is expected


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (GET, True),
        ("wellspring.storage.v1.Storage/*", True),
        ("wellspring.storage.v1.*/Get", True),
        ("**", True),
        ("wellspring.storage.v1.Storage/G", False),
        ("wellspring.storage.v1.Storage/Put", False),
        ("wellspring.storage.v1.Storage2/*", False),
        ("wellsprinG.storage.v1.Storage/Get", False),
    ],
)
def test_patterns_of_methods(pattern: str, expected: bool) -> None:
    assert allows("a", pattern, "a") is expected


@pytest.mark.parametrize("pattern", ["Get", "/x/Get", "*", "a/b/c", "a/", "/Get", ""])
def test_a_method_pattern_that_can_match_nothing_is_refused(pattern: str) -> None:
    with pytest.raises(RuleError, match="auth.rules"):
        AllowList(AuthOptions(rules={"a": [pattern]}))
    with pytest.raises(RuleError, match="auth.open_methods"):
        AllowList(AuthOptions(open_methods=[pattern]))


def test_no_rules_allow_everything_and_one_rule_denies_the_rest() -> None:
    assert AllowList(AuthOptions()).allows("anybody", GET)
    one = AllowList(AuthOptions(rules={"a": []}))
    assert not one.allows("a", GET)
    assert not one.allows("anonymous", GET)
    assert one.allows("anonymous", "grpc.health.v1.Health/Check")
    closed = AllowList(AuthOptions(rules={"a": []}, open_methods=()))
    assert not closed.allows("anonymous", "grpc.health.v1.Health/Check")


def test_rules_add_up() -> None:
    both = AllowList(AuthOptions(rules={"a*": [GET], "ab": ["x.Y/Z"]}))
    assert both.allows("ab", GET) and both.allows("ab", "x.Y/Z")
    assert both.allows("ac", GET) and not both.allows("ac", "x.Y/Z")


def test_what_is_remembered_is_bounded_and_stays_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules_module, "_REMEMBERED_IDENTITIES", 10)
    some = AllowList(AuthOptions(rules={"caller/1*": [GET]}))
    for _ in range(2):
        for number in range(100):
            assert some.allows(f"caller/{number}", GET) is str(number).startswith("1")
            assert len(some._decided) <= 10


@given(st.text(min_size=1), st.text(min_size=1))
def test_a_pattern_without_stars_matches_itself_alone(pattern: str, identity: str) -> None:
    if "*" in pattern or pattern != pattern.strip():
        return
    assert allows(pattern, GET, pattern)
    assert allows(pattern, GET, identity) is (identity == pattern)
