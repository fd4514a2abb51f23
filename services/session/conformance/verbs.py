"""Calls of the domain in few words, for the suites: by the caller "app", in the realm "web" unless it is said."""

from typing import Any

import pytest

from services.session.conformance.harness import Service
from services.session.domain import rotating, updating, validating
from services.session.domain.creating import Assurance, Minted
from services.session.domain.errors import SessionInvalid
from services.session.domain.operations import Operation
from services.session.domain.updating import Updated
from services.session.domain.validating import Validated


async def valid(s: Service, token: bytes, **more: Any) -> Validated:
    """Validates a token that must be good, by what stands in front of the store if anything does."""
    return await validating.validate(s.tools, s.realm(), "app", token, **{"hot": True, **more})


async def refused(s: Service, token: bytes, error: type[Exception] = SessionInvalid, realm: str = "web") -> Any:
    """The error of a token that must not be."""
    with pytest.raises(error) as caught:
        await validating.validate(s.tools, s.realm(realm), "app", token, hot=True)
    return caught.value


async def rotate(s: Service, token: bytes, privilege: bool = False, request_id: str = "") -> Minted:
    """A child of the token."""
    rid = request_id or s.uuid()
    return await rotating.rotate(s.tools, s.realm(), "app", token, privilege=privilege, request_id=rid)


async def step_up(s: Service, token: bytes, level: int = 2, subject: str = "", request_id: str = "") -> Minted:
    """The session after authenticating again."""
    assurance = Assurance(level, ("otp",), 0)
    rid = request_id or s.uuid()
    return await rotating.reauthenticate(s.tools, s.realm(), "app", token, assurance, subject, rid)


async def update(s: Service, token: bytes, *operations: Operation, request_id: str = "") -> Updated:
    """Changes the session's data."""
    return await updating.update_data(s.tools, s.realm(), "app", token, operations, request_id or s.uuid())


async def data(s: Service, token: bytes) -> dict[str, bytes]:
    """All of the session's data."""
    return {key: value.value for key, value in (await valid(s, token, data_keys=["*"])).data.items()}
