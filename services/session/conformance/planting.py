"""Canaries: a subject, names, values and tokens that are told to a service and must be found nowhere."""

import base64

import pytest

from services.session.conformance.harness import Service
from services.session.crypto import tokens
from services.session.domain import revoking, rotating, updating, validating
from services.session.domain.creating import Assurance
from services.session.domain.errors import SessionInvalid, TokenMalformed
from services.session.domain.operations import Operation

SUBJECT, KEY, VALUE, SHARED = "canary-subject@example.org", "canary-key", b"canary-value-7c1", b"canary-shared-99"


def spellings(secret: bytes) -> list[bytes]:
    """As it is, and as it may be written."""
    url, plain = base64.urlsafe_b64encode(secret).rstrip(b"="), base64.b64encode(secret).rstrip(b"=")
    return [secret, secret.hex().encode(), secret.hex().upper().encode(), url, plain, secret[::-1]]


def token_canaries(text: bytes) -> list[bytes]:
    """A token, its halves, its secret and its id."""
    token = tokens.parse(text)
    back = text.split(b".")[1]
    return [text, back, text.split(b".")[0], *spellings(token.secret), *spellings(token.id)]


async def planted(s: Service, errors: list[str]) -> list[bytes]:
    """Sessions made, rotated, stepped up, changed and ended, all of SUBJECT: the canaries, those of the keyring too.
    What failures say is added to `errors`."""
    told = [*spellings(SUBJECT.encode()), *spellings(KEY.encode()), *spellings(VALUE), *spellings(SHARED)]
    made = [await s.create(SUBJECT, data={KEY: VALUE}, shared={KEY: SHARED}) for _ in range(5)]
    texts = [m.token for m in made]
    for at, privilege in enumerate((False, True)):
        rid = s.uuid()
        child = await rotating.rotate(s.tools, s.realm(), "app", texts[at], privilege=privilege, request_id=rid)
        texts.append(child.token)
    high = await rotating.reauthenticate(
        s.tools, s.realm(), "app", texts[2], Assurance(2, ("otp",), 0), SUBJECT, s.uuid()
    )
    texts.append(high.token)
    await updating.update_data(s.tools, s.realm(), "app", texts[3], [Operation(KEY, set=VALUE)], s.uuid())
    await revoking.revoke_token(s.tools, s.realm(), "app", texts[4])
    for text in (texts[4], texts[3][:-1], b"wss_web_" + VALUE):
        with pytest.raises((SessionInvalid, TokenMalformed)) as caught:
            await validating.validate(s.tools, s.realm(), "app", text)
        errors.append(f"{caught.value!r} {caught.value.metadata}")
    for text in texts:
        told.extend(token_canaries(text))
    for key in s.tools.keyring.everything():
        told.extend(spellings(key.secret))
    return told
