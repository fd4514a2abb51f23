"""Calls of the domain in few words, for the suites."""

import pytest

from services.session.domain import rotating, updating, validating
from services.session.domain.creating import Assurance
from services.session.domain.errors import (
    SessionInvalid,
)


async def valid(s, token, **kwargs):
    return await validating.validate(s.tools, s.realm(), "app", token, **kwargs)


async def refused(s, token, error=SessionInvalid, realm="web"):
    with pytest.raises(error) as caught:
        await validating.validate(s.tools, s.realm(realm), "app", token)
    return caught.value


async def rotate(s, token, privilege=False, request_id=""):
    rid = request_id or s.uuid()
    return await rotating.rotate(s.tools, s.realm(), "app", token, privilege=privilege, request_id=rid)


async def step_up(s, token, level=2, subject="", request_id="", auth_us=0):
    return await rotating.reauthenticate(
        s.tools, s.realm(), "app", token, Assurance(level, ("otp",), auth_us), subject, request_id or s.uuid()
    )


async def update(s, token, *operations, request_id="", caller="app"):
    return await updating.update_data(s.tools, s.realm(), caller, token, operations, request_id or s.uuid())


async def data(s, token):
    return {k: v.value for k, v in (await valid(s, token, data_keys=["*"])).data.items()}
