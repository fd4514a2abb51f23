"""Calls that an engine makes by itself, with nobody waiting for them."""

import time
from collections.abc import Mapping, Sequence
from typing import NoReturn

import grpc

from libs.rpc.call import Call


class _Nobody:
    """The context of a call that came from no connection."""

    def auth_context(self) -> Mapping[str, Sequence[bytes]]:
        """Nobody is verified."""
        return {}

    def time_remaining(self) -> float | None:
        """The call has its own deadline."""
        return None

    def invocation_metadata(self) -> Sequence[tuple[str, str | bytes]]:
        """None."""
        return ()

    async def write(self, message: bytes) -> None:
        """Nobody reads."""

    async def abort(
        self, code: grpc.StatusCode, details: str, trailing_metadata: tuple[tuple[str, str | bytes], ...]
    ) -> NoReturn:
        """Errors of such a call are raised where it was made."""
        raise AssertionError(details)


def own_call(seconds: float) -> Call:
    """A call that may take so long."""
    call = Call("fleet", _Nobody())
    call.deadline_at = time.monotonic() + seconds
    return call
