"""The shards of other engines, called over the network: the contract's own services, with the shard's number beside.

An engine that leads a shard no more says so; one that cannot be reached is taken for one that does not lead it. In both
cases whoever called asks again, where the shard is led then.
"""

from collections.abc import AsyncGenerator, Callable
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from libs.errors import errors
from libs.rpc.call import Call
from services.propagation.fleet.errors import ShardAway, ShardNotHere
from services.propagation.fleet.shards import SHARD_HEADER
from services.propagation.fleet.telling import SHARDS
from services.propagation.service import ADMIN, PROPAGATION, WORK
from wellspring_client.calls import Caller
from wellspring_client.channels import Channels, Tls
from wellspring_client.errors import WellspringError

_SERVICES: dict[str, ServiceDescriptor] = {one.name: one for one in (PROPAGATION, WORK, ADMIN, SHARDS)}
_LEAST_S = 0.05
_MARGIN_S = 0.2
"""Kept of the caller's time, so that what went wrong there reaches it."""

_CLASSES: dict[int, type[errors.WellspringError]] = {
    int(one.code): one
    for one in (
        errors.OutOfRange,
        errors.Unauthenticated,
        errors.PermissionDenied,
        errors.NotFound,
        errors.AlreadyExists,
        errors.Aborted,
        errors.FailedPrecondition,
        errors.Unimplemented,
        errors.DataLoss,
    )
}


class Peers:
    """`address_of` a shard is where it is led, None when nobody knows; `look_again` is called when that was wrong."""

    def __init__(
        self,
        address_of: Callable[[int], str | None],
        look_again: Callable[[], None] = lambda: None,
        tls: Tls | None = None,
        shards: int | None = None,
    ) -> None:
        """`shards`: of how many; engines that have another number answer ShardNotHere."""
        self._of = "" if shards is None else f"/{shards}"
        self._address_of = address_of
        self.look_again = look_again
        self._tls = tls
        self._channels: dict[str, Channels] = {}
        self._callers: dict[tuple[str, int], Caller] = {}

    async def ask(self, shard: int, service: str, method: str, request: Message, call: Call) -> Any:
        """See `Others.ask`."""
        described = _SERVICES[service]
        answer = GetMessageClass(described.methods_by_name[method].output_type)
        try:
            return await self._caller(shard).unary(described, method, request, answer, _left_s(call))
        except WellspringError as error:
            raise _typed(error, shard) from None

    async def stream(
        self, shard: int, service: str, method: str, request: Message, call: Call
    ) -> AsyncGenerator[Any, None]:
        """See `Others.stream`."""
        described = _SERVICES[service]
        answer = GetMessageClass(described.methods_by_name[method].output_type)
        try:
            async for one in self._caller(shard).stream(described, method, request, answer, _left_s(call)):
                yield one
        except WellspringError as error:
            raise _typed(error, shard) from None

    async def close(self) -> None:
        """Ends the connections."""
        for channels in self._channels.values():
            await channels.close()

    def _caller(self, shard: int) -> Caller:
        address = self._address_of(shard)
        if address is None:
            raise ShardAway(f"no engine is known to lead shard {shard}")
        caller = self._callers.get((address, shard))
        if caller is None:
            channels = self._channels.get(address)
            if channels is None:
                channels = self._channels[address] = Channels(address, tls=self._tls)
            told = {SHARD_HEADER: f"{shard}{self._of}"}
            caller = self._callers[address, shard] = Caller(channels, 30.0, lambda: told)
        return caller


def _left_s(call: Call) -> float:
    return max(_LEAST_S, call.remaining_s - _MARGIN_S)


def _typed(error: WellspringError, shard: int) -> errors.WellspringError:
    """What another engine answered, as if it had been raised here."""
    code = int(error.code)
    if error.reason == ShardNotHere.default_reason:
        return ShardNotHere(error.message)
    if code == errors.Code.UNAVAILABLE and error.reason in ("", "UNAVAILABLE", ShardAway.default_reason):
        return ShardAway(f"the engine that leads shard {shard} is not reached")
    if code == errors.Code.INVALID_ARGUMENT:
        return errors.InvalidArgument(
            error.message, violations=error.violations, reason=error.reason or None, metadata=error.metadata
        )
    if code in (errors.Code.UNAVAILABLE, errors.Code.RESOURCE_EXHAUSTED):
        later = errors.Unavailable if code == errors.Code.UNAVAILABLE else errors.ResourceExhausted
        return later(
            error.message, retry_after_s=error.retry_after_s, reason=error.reason or None, metadata=error.metadata
        )
    if code == errors.Code.DEADLINE_EXCEEDED:
        return errors.DeadlineExceeded(f"the engine that leads shard {shard} did not answer in time")
    made = _CLASSES.get(code)
    if made is None:
        return errors.Internal(f"the engine that leads shard {shard} failed: {error.message}")
    return made(error.message, reason=error.reason or None, metadata=error.metadata)
