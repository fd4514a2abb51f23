"""The one pipeline of every RPC: identity, allow-list, deadline, admission, validation, work; then metrics, log, trace.

It is composed once for each method when the method is registered, as one coroutine function around the servicer's
method. Interceptors would do the same in seven layers, each paid by every call. Requests arrive as bytes and are parsed
here, after the caller is known and admitted: a request that does not parse is the caller's mistake, and the parser's
text stays inside.

A servicer's method takes the request (or an async iterator of requests) and a ``Call``. It returns the response, or is
an async generator of responses; a response may be bytes that are serialised already.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message

from libs.errors.errors import Code, InvalidArgument, Unimplemented
from libs.rpc.call import Call, Context
from libs.rpc.gate import Gate, draining_error

Work = Callable[[Any, Call], Any]


def compose(gate: Gate, work: Work, request_type: type[Message], *, streams_in: bool, streams_out: bool) -> Any:
    """The ``grpc.RpcMethodHandler`` that runs ``work`` behind ``gate``; it takes and gives bytes."""
    read = _reader(request_type, gate)
    if streams_in and streams_out:
        return grpc.stream_stream_rpc_method_handler(_streaming(gate, work, lambda raws: _read_all(raws, read)))
    if streams_in:
        return grpc.stream_unary_rpc_method_handler(_single(gate, work, lambda raws: _read_all(raws, read)))
    if streams_out:
        return grpc.unary_stream_rpc_method_handler(_streaming(gate, work, read))
    return grpc.unary_unary_rpc_method_handler(_single(gate, work, read))


def _single(gate: Gate, work: Work, read: Callable[[Any], Any]) -> Callable[[Any, Context], Awaitable[bytes]]:
    """The coroutine function of a method with one response."""
    method = gate.method

    async def handle(raw: Any, context: Context) -> bytes:
        call = Call(method, context)
        try:
            gate.open(call, context)
            request = read(raw)
            if call.own_deadline:
                response = await _within(gate, call, work(request, call))
            else:
                response = await work(request, call)
            reply = response if type(response) is bytes else response.SerializeToString()
        except asyncio.CancelledError:
            gate.close(call, gate.cancelled_code(call))
            raise
        except Exception as error:
            failure = gate.explain(call, error)
            gate.close(call, failure.code)
            await context.abort(*failure.arguments())
        gate.close(call, Code.OK)
        return reply

    return handle


def _streaming(gate: Gate, work: Work, read: Callable[[Any], Any]) -> Callable[[Any, Context], Awaitable[None]]:
    """The coroutine function of a method with a stream of responses."""
    method = gate.method

    async def handle(raw: Any, context: Context) -> None:
        call = Call(method, context)
        try:
            gate.open(call, context)
            sending = _send_all(context, work(read(raw), call))
            sending = _until_ending(gate, call, sending) if gate.policy.endless else sending
            await (_within(gate, call, sending) if call.own_deadline else sending)
        except asyncio.CancelledError:
            gate.close(call, gate.cancelled_code(call))
            raise
        except Exception as error:
            failure = gate.explain(call, error)
            gate.close(call, failure.code)
            await context.abort(*failure.arguments())
        gate.close(call, Code.OK)

    return handle


_TURN_MESSAGES = 32
"""Responses in a row before the event loop has its turn: at some 20 µs each, less than a millisecond."""


async def _send_all(context: Context, responses: Any) -> None:
    # aclosing: a generator left half way (the caller went, the deadline passed) still runs its finally blocks, here and
    # now.
    written = 0
    async with aclosing(responses):
        async for response in responses:
            written += 1
            if not written % _TURN_MESSAGES:
                # A writer that is never made to wait must hear all the same that its caller has gone.
                await asyncio.sleep(0)
            await context.write(response if type(response) is bytes else response.SerializeToString())


async def _within(gate: Gate, call: Call, work: Awaitable[Any]) -> Any:
    """Awaits ``work`` until the deadline that the server itself must keep: the engines keep only the caller's."""
    try:
        async with asyncio.timeout(call.remaining_s) as limit:
            return await work
    except TimeoutError:
        if limit.expired():
            raise gate.late() from None
        raise


async def _until_ending(gate: Gate, call: Call, sending: Awaitable[None]) -> None:
    """Awaits ``sending`` unless the server stops first: then the caller hears UNAVAILABLE and resumes elsewhere."""
    task = asyncio.current_task()
    assert task is not None
    entry = (call, task)
    gate.endless.add(entry)
    if gate.ending:
        _end(entry)
    try:
        await sending
    except asyncio.CancelledError:
        if not call.ending or task.uncancel() > 0:
            raise
        raise draining_error() from None
    finally:
        gate.endless.discard(entry)


def end_endless(gate: Gate) -> None:
    """Ends the endless streams of a method, those to come too, because the server stops."""
    gate.ending = True
    for entry in list(gate.endless):
        _end(entry)


def _end(entry: tuple[Call, asyncio.Task[object]]) -> None:
    call, task = entry
    if not call.ending:
        call.ending = True
        task.cancel()


def _reader(request_type: type[Message], gate: Gate) -> Callable[[bytes], Any]:
    """The function that parses and validates one request message."""
    parse = request_type.FromString
    validate = gate.policy.validator
    name = request_type.DESCRIPTOR.full_name

    def read(raw: bytes) -> Any:
        try:
            request = parse(raw)
        except DecodeError:
            raise InvalidArgument(f"the request of {gate.method} is not a {name}", reason="REQUEST_MALFORMED") from None
        if validate is not None:
            validate(request)
        return request

    return read


async def _read_all(raws: AsyncIterator[bytes], read: Callable[[bytes], Any]) -> AsyncIterator[Any]:
    async for raw in raws:
        yield read(raw)


def unimplemented(method: str, service: str) -> Work:
    """The work of a method that the contract has and the servicer has not; for both kinds of response."""

    def refuse(request: Any, call: Call) -> Any:
        raise Unimplemented(
            f"{method} is not implemented by this server; {service}'s README lists what is", metadata={"method": method}
        )

    return refuse
