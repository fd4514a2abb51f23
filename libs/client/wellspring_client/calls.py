"""One call: its deadline, its headers, its typed errors; and streams that go on after a broken connection."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TypeVar

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message

from wellspring_client.channels import Channels
from wellspring_client.endings import Ending
from wellspring_client.errors import ClientClosed, DeadlineExceeded, Unavailable, from_call

_Answer = TypeVar("_Answer", bound=Message)

STREAM_S = 600.0
"""How long one stream is kept before the next one takes over where it ended: servers come and go."""

_RESTARTS = 8
_RESTART_S = 0.1
_RESTART_MOST_S = 5.0


class Caller:
    """Calls of one service over its channels. ``headers`` gives metadata to send with each call."""

    def __init__(self, channels: Channels, timeout_s: float, headers: Callable[[], Mapping[str, str]]) -> None:
        self._channels = channels
        self._timeout_s = timeout_s
        self._headers = headers
        self._closed = False

    @property
    def target(self) -> str:
        """The address, for people."""
        return self._channels.target

    async def unary(
        self, service: ServiceDescriptor, method: str, request: Message, answer: type[_Answer], timeout_s: float | None
    ) -> _Answer:
        """The answer of ``method``. Raises WellspringError; ``timeout_s`` None is the client's own, for all attempts
        together.
        """
        call = self._open().unary_unary(_path(service, method), type(request).SerializeToString, answer.FromString)(
            request, timeout=self._limit(timeout_s), metadata=self._metadata()
        )
        try:
            response: _Answer = await call
        except grpc.aio.AioRpcError as error:
            raise from_call(error, self.target) from None
        return response

    async def stream(
        self, service: ServiceDescriptor, method: str, request: Message, answer: type[_Answer], timeout_s: float | None
    ) -> AsyncIterator[_Answer]:
        """The answers of a server's stream, as they come. Raises WellspringError."""
        call = self._open().unary_stream(_path(service, method), type(request).SerializeToString, answer.FromString)(
            request, timeout=self._limit(timeout_s), metadata=self._metadata()
        )
        try:
            async for response in call:
                yield response
        except grpc.aio.AioRpcError as error:
            raise from_call(error, self.target) from None
        finally:
            call.cancel()

    async def upload(
        self,
        service: ServiceDescriptor,
        method: str,
        requests: AsyncIterator[Message],
        answer: type[_Answer],
        timeout_s: float | None,
    ) -> _Answer:
        """The answer to a stream of requests. Raises WellspringError. Not retried: the requests are gone."""

        def serialize(message: Message) -> bytes:
            return message.SerializeToString()

        call = self._open().stream_unary(_path(service, method), serialize, answer.FromString)(
            requests, timeout=self._limit(timeout_s), metadata=self._metadata()
        )
        ending = Ending(call)
        try:
            response: _Answer = await call
        except grpc.aio.AioRpcError as error:
            raise from_call(ending.of(error), self.target) from None
        return response

    async def resuming(
        self,
        service: ServiceDescriptor,
        method: str,
        request_from: Callable[[str], Message],
        answer: type[_Answer],
        resume_token: str,
        token_of: Callable[[_Answer], str],
        *,
        endless: bool,
    ) -> AsyncIterator[_Answer]:
        """The answers of a stream that can be resumed, over as many connections as it takes.

        ``request_from`` makes the request that goes on after a token, ``token_of`` finds the token in an answer. A
        stream that is cut (Unavailable, DeadlineExceeded) is taken up again where it was, with growing pauses, up to
        eight times without progress. ``endless``: an end without error is a cut as well.
        """
        failures = 0
        while True:
            try:
                async for response in self.stream(service, method, request_from(resume_token), answer, STREAM_S):
                    failures = 0
                    resume_token = token_of(response) or resume_token
                    yield response
                if not endless:
                    return
            except (Unavailable, DeadlineExceeded) as error:
                if isinstance(error, Unavailable):
                    failures += 1
                    if failures > _RESTARTS:
                        raise
                pause_s = error.retry_after_s or min(_RESTART_MOST_S, _RESTART_S * 2**failures)
                await asyncio.sleep(pause_s * (0.5 + secrets.randbelow(1000) / 1000) if failures else 0)

    async def close(self) -> None:
        """Close the channels; later calls raise ClientClosed."""
        self._closed = True
        await self._channels.close()

    def _open(self) -> grpc.aio.Channel:
        if self._closed:
            raise ClientClosed("the client was closed; connect again")
        return self._channels.next()

    def _limit(self, timeout_s: float | None) -> float:
        limit = self._timeout_s if timeout_s is None else timeout_s
        if not limit > 0:
            raise ValueError(f"a timeout is a number of seconds above 0: got {limit}")
        return limit

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return tuple(self._headers().items())


def _path(service: ServiceDescriptor, method: str) -> str:
    return f"/{service.full_name}/{method}"
