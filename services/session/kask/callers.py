"""Who calls: a certificate's name, the name of a credential, or nobody; and what each may do. Default deny.

A credential is a secret that the caller shows in `Authorization: Bearer …`; of it the process keeps a hash.
"""

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from aiohttp import web

from libs.auth.identity import ANONYMOUS, identify
from libs.errors.errors import Unauthenticated
from services.session.kask.problems import Problem

CREDENTIAL: Final = "credential:"
"""Begins the identity of who shows a credential; no certificate's identity begins so."""

_CHALLENGE: Final = {"WWW-Authenticate": "Bearer"}


@dataclass(frozen=True, slots=True)
class Rule:
    """What an identity (or a pattern that ends in ``*``) may do: names of verbs, or ``*``."""

    identity: str
    methods: frozenset[str]

    def is_for(self, identity: str) -> bool:
        """Whether the rule is about this caller."""
        if self.identity.endswith("*"):
            return identity.startswith(self.identity[:-1])
        return identity == self.identity


class Callers:
    """`credentials` are SHA-256 of secrets, each with the identity that it stands for."""

    def __init__(self, rules: Sequence[Rule], credentials: Mapping[bytes, str]) -> None:
        self._rules = tuple(rules)
        self.credentials = dict(credentials)

    def identify(self, request: web.BaseRequest) -> str:
        """The caller's identity. Raises Problem (401) when what it shows proves nothing."""
        shown = request.headers.getall("Authorization", ())
        if shown:
            return self._credential(shown)
        certificate = request.transport.get_extra_info("peercert") if request.transport is not None else None
        if not certificate:
            return ANONYMOUS
        try:
            return identify(_Handshake(certificate))
        except Unauthenticated as error:
            raise Problem(401, error.message, headers=_CHALLENGE) from None

    def check(self, identity: str, method: str = "") -> None:
        """Raises Problem unless some rule lets the caller do this (or, without a method, anything)."""
        rules = [rule for rule in self._rules if rule.is_for(identity)]
        if not rules and identity == ANONYMOUS:
            raise Problem(401, headers=_CHALLENGE)
        if not any(not method or "*" in rule.methods or method in rule.methods for rule in rules):
            raise Problem(403)

    def _credential(self, shown: Sequence[str]) -> str:
        scheme, _, secret = shown[0].partition(" ")
        digest = sha256(secret.strip().encode("utf-8", "surrogateescape")).digest()
        identity = ""
        # All of them are compared, so that the time tells nothing.
        for known, name in self.credentials.items():
            if hmac.compare_digest(known, digest):
                identity = name
        if len(shown) > 1 or scheme.lower() != "bearer" or not identity:
            raise Problem(401, headers=_CHALLENGE)
        return identity


class _Handshake:
    """A peer's certificate, as Python's ssl describes it, in gRPC's words."""

    def __init__(self, certificate: Mapping[str, Any]) -> None:
        subject = [pair for part in certificate.get("subject", ()) for pair in part]
        names = [value.encode() for name, value in subject if name == "commonName"]
        uris = [value.encode() for kind, value in certificate.get("subjectAltName", ()) if kind == "URI"]
        self._context: dict[str, Sequence[bytes]] = {
            "transport_security_type": (b"ssl",),
            "x509_pem_cert": (b"verified",),
            "x509_common_name": names,
            "x509_subject_alternative_name": uris,
        }

    def auth_context(self) -> Mapping[str, Sequence[bytes]]:
        """See libs.auth.identity.AuthSource."""
        return self._context
