"""Assertions checked without a call: short signed statements about a session, as the session service issues them.

An assertion is a JWT (RFC 7519) of one algorithm and one type; nothing in it chooses how it is checked. ``verify`` says
who it is about; that its session was not ended since is the business of :mod:`wellspring_client.verifier`.

Needs the package ``cryptography``.
"""

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from wellspring_client.errors import AssertionInvalid
from wellspring_client.key_set import KeySet, unb64

TYPE: Final = "wss-assertion+jwt"
ALGORITHM: Final = "EdDSA"
LONGEST_S: Final = 60
"""No assertion lives longer, by the session service's contract."""
MAX_CHARS: Final = 4096
SKEW_S: Final = 5.0
MAX_SKEW_S: Final = 60.0
_ISSUER: Final = "wellspring-session/"
_HASH_BYTES: Final = 32
_SIGNATURE_BYTES: Final = 64
_LEVELS: Final = {"1": 1, "2": 2, "3": 3}


@dataclasses.dataclass(frozen=True, slots=True)
class Claims:
    """What a good assertion says. ``handle_hash``: SHA-256 of the session's handle; ``subject``: in the audience's own
    form, empty for an anonymous session (its ``level`` is 0 then); times are seconds since 1970.
    """

    issuer: str
    audience: str
    realm: str
    handle_hash: bytes
    subject: str
    level: int
    methods: tuple[str, ...]
    auth_s: int
    issued_s: int
    expires_s: int
    assertion_id: str


class Assertions:
    """Checks assertions of one realm that are meant for one audience.

    ``audience``: this service's own name; where it is the identity that this process calls the session service with,
    the feed of revocations names subjects as assertions do. ``issuers``: full names ("wellspring-session/local") that
    are believed; None: any data centre of the service, whose key set it is. ``skew_s``: how far this clock and the
    issuer's may be apart, 0..60. ``wall_ns`` is the clock, for tests. Raises ValueError for settings out of bounds.
    """

    def __init__(
        self,
        keys: KeySet,
        *,
        audience: str,
        realm: str,
        issuers: Sequence[str] | None = None,
        skew_s: float = SKEW_S,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        if not audience or not realm:
            raise ValueError("an assertion is checked for one audience and one realm; name both")
        if not 0 <= skew_s <= MAX_SKEW_S:
            raise ValueError(f"skew_s is 0 to {MAX_SKEW_S:g} seconds: got {skew_s}")
        self._keys = keys
        self._audience = audience
        self._realm = realm
        self._issuers = None if issuers is None else frozenset(issuers)
        self._skew_s = skew_s
        self._wall_ns = wall_ns

    async def verify(self, assertion: str) -> Claims:
        """What the assertion says. Raises AssertionInvalid (present another one), Unavailable (the keys are not known
        now). The error says what is wrong and repeats nothing of the assertion.
        """
        if len(assertion) > MAX_CHARS:
            raise AssertionInvalid(f"the assertion is longer than {MAX_CHARS} characters")
        parts = assertion.split(".")
        if len(parts) != 3:
            raise AssertionInvalid("an assertion has three parts, divided by dots")
        try:
            raw = [unb64(part) for part in parts]
        except ValueError:
            raise AssertionInvalid("a part of the assertion is not base64url") from None
        key_id = _key_id(_object(raw[0], "header"))
        if len(raw[2]) != _SIGNATURE_BYTES:
            raise AssertionInvalid("the signature is not one of Ed25519")
        good = await self._keys.verifies(key_id, raw[2], f"{parts[0]}.{parts[1]}".encode())
        if good is None:
            raise AssertionInvalid("the assertion is signed by a key that the service does not publish")
        if not good:
            raise AssertionInvalid("the signature does not fit")
        return self._checked(_object(raw[1], "claims"))

    def _checked(self, said: dict[str, Any]) -> Claims:
        """Whose claims they are, for whom, and when."""
        claims = _claims(said)
        if claims.audience != self._audience:
            raise AssertionInvalid("the assertion is for another audience")
        if claims.realm != self._realm:
            raise AssertionInvalid("the assertion is of another realm")
        if not claims.issuer.startswith(_ISSUER) or not claims.issuer.isprintable():
            raise AssertionInvalid("the assertion is not the session service's")
        if self._issuers is not None and claims.issuer not in self._issuers:
            raise AssertionInvalid("the assertion is of an issuer that is not believed here")
        if not 0 < claims.expires_s - claims.issued_s <= LONGEST_S:
            raise AssertionInvalid(f"the assertion claims to live longer than {LONGEST_S} s, or not at all")
        now_s = self._wall_ns() / 1e9
        if max(claims.issued_s, _time(said, "nbf", claims.issued_s)) > now_s + self._skew_s:
            raise AssertionInvalid("the assertion is not good yet; are the clocks apart?")
        if now_s >= claims.expires_s + self._skew_s:
            raise AssertionInvalid("the assertion has expired")
        return claims


def _key_id(header: dict[str, Any]) -> str:
    """Which key it names. The header says nothing else: no address of keys, no key, no extension is looked at."""
    if header.get("alg") != ALGORITHM:
        raise AssertionInvalid(f"the algorithm is not {ALGORITHM}")
    if header.get("typ") != TYPE:
        raise AssertionInvalid(f"the type is not {TYPE}")
    key_id = header.get("kid")
    if not isinstance(key_id, str) or not 1 <= len(key_id) <= 128:
        raise AssertionInvalid("no key is named")
    if len(header) != 3:
        raise AssertionInvalid("the header has more in it than alg, typ and kid")
    return key_id


def _claims(said: dict[str, Any]) -> Claims:
    """The claims by their types. Raises AssertionInvalid for one that is missing or of another type."""
    try:
        handle_hash = unb64(_text(said, "sid"))
    except ValueError:
        handle_hash = b""
    if len(handle_hash) != _HASH_BYTES:
        raise AssertionInvalid("the claim sid is not the hash of a handle")
    level, auth_s, subject = 0, 0, ""
    methods: tuple[str, ...] = ()
    if {"sub", "acr", "amr", "auth_time"} & said.keys():
        subject, level, auth_s = _text(said, "sub"), _LEVELS.get(_text(said, "acr"), 0), _time(said, "auth_time")
        if not level:
            raise AssertionInvalid("the claim acr is no level of assurance")
        methods = _methods(said)
    return Claims(
        issuer=_text(said, "iss"),
        audience=_text(said, "aud"),
        realm=_text(said, "realm"),
        handle_hash=handle_hash,
        subject=subject,
        level=level,
        methods=methods,
        auth_s=auth_s,
        issued_s=_time(said, "iat"),
        expires_s=_time(said, "exp"),
        assertion_id=_text(said, "jti"),
    )


def _methods(said: dict[str, Any]) -> tuple[str, ...]:
    methods = said.get("amr")
    if not isinstance(methods, list) or not all(isinstance(one, str) for one in methods):
        raise AssertionInvalid("the claim amr is not a list of words")
    return tuple(methods)


def _text(said: dict[str, Any], name: str) -> str:
    value = said.get(name)
    if not isinstance(value, str) or not value:
        raise AssertionInvalid(f"the claim {name} is missing or no text")
    return value


def _time(said: dict[str, Any], name: str, default: int | None = None) -> int:
    value = said.get(name, default)
    if type(value) is not int or value < 0:  # true is an int, too
        raise AssertionInvalid(f"the claim {name} is missing or no time in whole seconds")
    return value


def _object(raw: bytes, what: str) -> dict[str, Any]:
    """A JSON object in which no name comes twice: of two claims of one name, each reader would take another."""
    try:
        value = json.loads(raw.decode(), object_pairs_hook=_unique, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise AssertionInvalid(f"the {what} of the assertion is no JSON, or names something twice") from None
    if not isinstance(value, dict):
        raise AssertionInvalid(f"the {what} of the assertion is no JSON object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) != len(pairs):
        raise ValueError("a name comes twice")
    return found


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")
