"""Identities from the properties of a handshake."""

from collections.abc import Mapping, Sequence

import pytest

from libs.auth.identity import ANONYMOUS, identify
from libs.errors.errors import Unauthenticated

SAN = "x509_subject_alternative_name"
CN = "x509_common_name"


class Peer:
    def __init__(self, **properties: Sequence[bytes]) -> None:
        self.properties = properties

    def auth_context(self) -> Mapping[str, Sequence[bytes]]:
        return self.properties


def peer(**properties: Sequence[bytes]) -> Peer:
    return Peer(transport_security_type=[b"ssl"], x509_pem_cert=[b"pem"], **properties)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (peer(**{SAN: [b"spiffe://wiki/render"], CN: [b"render"]}), "spiffe://wiki/render"),
        (peer(**{SAN: [b"render.example.org", b"https://render", b"10.0.0.1"], CN: [b"x"]}), "https://render"),
        (peer(**{SAN: [b"render.example.org"], CN: [b"render"]}), "cn:render"),
        (peer(**{CN: [b"spiffe://wiki/render"]}), "cn:spiffe://wiki/render"),
        (peer(**{CN: ["Grüße".encode()]}), "cn:Grüße"),
        (Peer(), ANONYMOUS),
        (Peer(transport_security_type=[b"insecure"], **{CN: [b"render"]}), ANONYMOUS),
        (Peer(transport_security_type=[b"ssl"]), ANONYMOUS),
    ],
)
def test_the_uri_then_the_common_name_then_nobody(source: Peer, expected: str) -> None:
    assert identify(source) == expected


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (peer(**{SAN: [b"spiffe://a/b", b"spiffe://a/c"]}), "IDENTITY_AMBIGUOUS"),
        (peer(), "IDENTITY_MISSING"),
        (peer(**{CN: [b""]}), "IDENTITY_MISSING"),
        (peer(**{CN: [b"a", b"b"]}), "IDENTITY_MISSING"),
        (peer(**{CN: [b"\xff"]}), "IDENTITY_UNREADABLE"),
        (peer(**{SAN: [b"spiffe://a/\n"]}), "IDENTITY_UNREADABLE"),
        (peer(**{CN: [b"x" * 513]}), "IDENTITY_UNREADABLE"),
    ],
)
def test_a_certificate_that_names_nobody_or_several_is_refused(source: Peer, reason: str) -> None:
    with pytest.raises(Unauthenticated) as caught:
        identify(source)
    assert caught.value.reason == reason
