"""Who is calling: the identity in the certificate that the TLS handshake has verified."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from libs.errors.errors import Unauthenticated

ANONYMOUS = "anonymous"
"""The identity of every caller on a listener that asks for no client certificate."""

_LONGEST = 512
"""Characters of an identity; SPIFFE allows 2,048 bytes, a name that people put in rules needs fewer."""


class AuthSource(Protocol):
    """The part of a call's context that knows the handshake."""

    def auth_context(self) -> Mapping[str, Sequence[bytes]]:
        """The properties of the verified peer, as gRPC names them."""


def identify(source: AuthSource) -> str:
    """The identity of the caller: its certificate's one URI, else ``cn:`` and its common name; ANONYMOUS without TLS.

    Raises Unauthenticated when TLS is on and the certificate names nobody or more than one.
    """
    properties = source.auth_context()
    if properties.get("transport_security_type", (b"insecure",))[0] != b"ssl" or not properties.get("x509_pem_cert"):
        return ANONYMOUS
    uris = [name for name in properties.get("x509_subject_alternative_name", ()) if b"://" in name]
    if len(uris) > 1:
        raise Unauthenticated(
            "the client certificate carries more than one URI; one is an identity", reason="IDENTITY_AMBIGUOUS"
        )
    if uris:
        return _text(uris[0])
    names = properties.get("x509_common_name", ())
    if len(names) != 1 or not names[0]:
        raise Unauthenticated(
            "the client certificate carries neither a URI nor a common name", reason="IDENTITY_MISSING"
        )
    return "cn:" + _text(names[0])


def _text(name: bytes) -> str:
    try:
        text = name.decode("utf-8")
    except UnicodeDecodeError:
        text = ""
    if not text or len(text) > _LONGEST or not text.isprintable():
        raise Unauthenticated(
            f"the name in the client certificate is not printable UTF-8 of 1 to {_LONGEST} characters",
            reason="IDENTITY_UNREADABLE",
        )
    return text
