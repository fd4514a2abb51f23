"""A page token serves the request that it was made for, and nothing else."""

import base64
import os
import random

import pytest

from libs.clock.virtual import VirtualClock
from libs.errors.errors import InvalidArgument
from libs.paging.paging import PageTokens

KEY = bytes(range(32))
REQUEST = {"method": "ListNotes", "identity": ["namespaces/a", b"filter"]}


def refused(tokens, token, reason="PAGE_TOKEN_INVALID", **request):
    with pytest.raises(InvalidArgument) as caught:
        tokens.open(token, **(request or REQUEST))
    assert caught.value.reason == reason
    assert [path for path, _ in caught.value.violations] == ["page_token"]


@pytest.mark.parametrize("cursor", [b"", b"k", b"\x00\xff" * 600])
def test_round_trip(cursor):
    tokens = PageTokens([KEY], VirtualClock())
    token = tokens.issue(cursor, **REQUEST)
    assert tokens.open(token, **REQUEST) == cursor
    assert token.isascii() and not set(token) & set("+/= ")
    assert tokens.open("", **REQUEST) is None


def test_another_request_is_refused():
    tokens = PageTokens([KEY], VirtualClock())
    token = tokens.issue(b"cursor", **REQUEST)
    for method, identity in [
        ("ListOthers", ["namespaces/a", b"filter"]),
        ("ListNotes", ["namespaces/b", b"filter"]),
        ("ListNotes", ["namespaces/a"]),
        ("ListNotes", ["namespaces/afil", b"ter"]),
        ("ListNotesnamespaces/a", [b"filter"]),
        ("ListNotes", ["namespaces/a", b"filter", ""]),
    ]:
        refused(tokens, token, method=method, identity=identity)


def test_every_changed_bit_is_refused():
    tokens = PageTokens([KEY], VirtualClock())
    token = tokens.issue(b"cursor", **REQUEST)
    sealed = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    for bit in range(len(sealed) * 8):
        changed = bytearray(sealed)
        changed[bit // 8] ^= 1 << bit % 8
        refused(tokens, base64.urlsafe_b64encode(changed).rstrip(b"=").decode())
    for length in range(1, len(token)):
        refused(tokens, token[:length])


def test_noise_is_refused():
    rng = random.Random(11)
    tokens = PageTokens([KEY], VirtualClock())
    for text in ["=", "====", "a b", "é", "\0", "A" * 9000, "..", "+/+/"]:
        refused(tokens, text)
    for _ in range(500):
        refused(
            tokens,
            base64.urlsafe_b64encode(rng.randbytes(rng.randrange(1, 80))).rstrip(b"=").decode(),
        )
    refused(tokens, tokens.issue(b"c", **REQUEST) + "=")


def test_expiry():
    clock = VirtualClock()
    tokens = PageTokens([KEY], clock, ttl_s=7200)
    token = tokens.issue(b"cursor", **REQUEST)
    clock.set_wall(clock.time_ns() + 7200 * 10**9)
    assert tokens.open(token, **REQUEST) == b"cursor"
    clock.set_wall(clock.time_ns() + 10**9)
    refused(tokens, token, "PAGE_TOKEN_EXPIRED")


def test_keys_rotate():
    clock = VirtualClock()
    new = os.urandom(32)
    old_tokens, both, after = (PageTokens(keys, clock) for keys in ([KEY], [new, KEY], [new]))
    token = old_tokens.issue(b"cursor", **REQUEST)
    assert both.open(token, **REQUEST) == b"cursor"
    refused(after, token)
    fresh = both.issue(b"cursor", **REQUEST)
    assert after.open(fresh, **REQUEST) == b"cursor"
    refused(old_tokens, fresh)


@pytest.mark.parametrize("keys", [[], [b"short"], [KEY, b""]])
def test_weak_keys_are_refused(keys):
    with pytest.raises(ValueError, match="32 bytes"):
        PageTokens(keys, VirtualClock())
