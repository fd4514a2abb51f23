"""What an assertion says of a session: for one audience, a minute at most, never past the session."""

import base64
from hashlib import sha256
from typing import Any, Final

from services.session.crypto import pseudonyms
from services.session.domain.errors import SessionInvalid
from services.session.domain.model import Session
from services.session.domain.realms import Realm
from services.session.domain.tools import Tools
from services.session.domain.validity import ends_us

LONGEST_S: Final = 60
"""An assertion outlives a revocation by this much, at most."""
ISSUER: Final = "wellspring-session"


def claims(tools: Tools, realm: Realm, session: Session, audience: str, lifetime_s: int) -> dict[str, Any]:
    """Registered claims of RFC 7519 and, for level and methods, `acr` and `amr`; `sid` is a hash of the handle.

    The subject is in the audience's own form. Raises SessionInvalid when the session ends within the second.
    """
    now_s = tools.clock.now_us() // 1_000_000
    expires_s = min(now_s + lifetime_s, ends_us(session, realm.policy)[1] // 1_000_000)
    if expires_s <= now_s:
        raise SessionInvalid
    said: dict[str, Any] = {
        "iss": f"{ISSUER}/{session.home}",
        "aud": audience,
        "realm": realm.name,
        "sid": base64.urlsafe_b64encode(sha256(session.handle.encode()).digest()).rstrip(b"=").decode(),
        "iat": now_s,
        "exp": expires_s,
        "jti": tools.random(16).hex(),
    }
    if not session.anonymous:
        said["sub"] = pseudonyms.pairwise(tools.keyring, realm.name, audience, session.subject)
        said["acr"] = str(session.level)
        said["amr"] = list(session.methods)
        said["auth_time"] = session.auth_us // 1_000_000
    return said
