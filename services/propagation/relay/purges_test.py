"""Messages to purges: what is none is refused by what is wrong with it."""

import json

import pytest

from libs.purge.client import Purge
from services.propagation.relay.purges import NoPurge, purge_of


def message(uri="http://a.example/wiki/X", **more):
    return json.dumps({"$schema": "/resource_change/1.0.0", "meta": {"uri": uri}, "tags": ["purge"]} | more).encode()


@pytest.mark.parametrize(
    ("given", "purge"),
    [
        (message(), Purge("/wiki/X", host="a.example")),
        (message("https://a.example"), Purge("/", host="a.example")),
        (message("//a.example/w?a=b&c=%20"), Purge("/w?a=b&c=%20", host="a.example")),
        (message("/wiki/X"), Purge("/wiki/X")),
        (message(min_version="0" * 31 + "5"), Purge("/wiki/X", bytes(15) + b"\5", host="a.example")),
        (message(xkeys=["a", "b"]), Purge(tags=("a", "b"))),
    ],
)
def test_what_is_purged(given, purge):
    assert purge_of(given) == purge


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (b"", "no JSON"),
        (b"\xff", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[]", "no JSON object"),
        (b"{}", "no meta.uri"),
        (message(5), "no meta.uri"),
        (message("ftp://a/b"), "no URL"),
        (message("http://a/b c"), "no URL"),
        (message("http://a/\r\nX: y"), "no URL"),
        (message("http://a/ü"), "no URL"),
        (message("http://a/" + 9_000 * "x"), "no URL"),
        (message(min_version="5"), "min_version"),
        (message(min_version=5), "min_version"),
        (message(xkeys=[]), "xkeys"),
        (message(xkeys="a"), "xkeys"),
        (message(xkeys=["a b"]), "xkeys"),
        (message(xkeys=["x"] * 101), "xkeys"),
    ],
)
def test_what_is_no_purge(given, says):
    with pytest.raises(NoPurge, match=says):
        purge_of(given)
