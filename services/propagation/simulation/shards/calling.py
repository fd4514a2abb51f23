"""Calls in virtual time, for what asks a call how long it may take."""

import asyncio
from typing import cast

from libs.rpc.call import Call


class _VirtualCall:
    def __init__(self, seconds: float) -> None:
        self._end_s = asyncio.get_running_loop().time() + seconds

    @property
    def remaining_s(self) -> float:
        """See `Call`."""
        return max(0.0, self._end_s - asyncio.get_running_loop().time())


def call_of(seconds: float) -> Call:
    """A call that may take so long; of anything else that a call has, the fleet asks nothing here."""
    return cast("Call", _VirtualCall(seconds))
