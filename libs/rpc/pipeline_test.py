"""The pipeline over both engines: every stage refuses what it must, in order, and gives back what it took."""

import asyncio
import gc
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from libs.errors import errors
from libs.errors.errors import Code
from libs.rpc.call import Call
from libs.rpc.policy import Policy
from libs.rpc.testing.harness import ENGINES, Running, details, echo_server
from wellspring.bench.v1 import echo_pb2 as pb

pytestmark = pytest.mark.parametrize("engine", ENGINES)

SAY = "wellspring.bench.v1.Echo/Say"


def behave(**told: Any) -> pb.SayRequest:
    return pb.SayRequest(payload=b"x", behaviour=pb.Behaviour(**told))


async def failure(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def until(condition: Any) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110  (the condition is anything)
            await asyncio.sleep(0.005)


def in_flight(running: Running) -> list[int]:
    return [gate._metrics.in_flight for gate in running.server.gates] + [
        running.server._shared.unary.used,
        running.server._shared.streams.used,
    ]


def test_every_shape_of_call(engine: str) -> None:
    async def main() -> None:
        async with echo_server(engine=engine) as running:
            said = await running.stub.Say(pb.SayRequest(payload=b"abc"), timeout=20)
            assert (said.payload, said.identity) == (b"abc", "anonymous")
            # grpcio sends what is left rounded up, by a hundredth of it at most.
            assert 10_000 < said.remaining_ms <= 20_200
            batch = await running.stub.SayBatch(pb.SayBatchRequest(payloads=[b"1", b"2"]))
            assert list(batch.payloads) == [b"1", b"2"]
            repeated = [answer.index async for answer in running.stub.Repeat(pb.RepeatRequest(count=5))]
            assert repeated == [0, 1, 2, 3, 4]
            gathered = await running.stub.Gather(iter([pb.GatherRequest(payload=b"ab")] * 3))
            assert (gathered.messages, gathered.size_bytes) == (3, 6)
            talk = running.stub.Converse(iter([pb.ConverseRequest(payload=bytes([n])) for n in range(3)]))
            assert [answer.payload async for answer in talk] == [b"\0", b"\1", b"\2"]
            assert not any(in_flight(running))

    asyncio.run(main())


def leaves(cls: type[errors.WellspringError]) -> Iterator[type[errors.WellspringError]]:
    below = cls.__subclasses__()
    for sub in below:
        yield from leaves(sub)
    if not below:
        yield cls


def test_every_typed_error_arrives_whole(engine: str) -> None:
    async def main() -> None:
        async with echo_server(engine=engine) as running:
            for leaf in leaves(errors.WellspringError):
                if leaf.__module__ != "libs.errors.errors":
                    continue
                name = leaf.__name__
                unary = details(await failure(running.stub.Say(behave(fail_with=name))))
                assert (unary.code.value[0], unary.text) == (int(leaf.code), f"asked to fail with {name}")
                assert (unary.reason, unary.metadata) == ("AS_ASKED", {"kind": name})
                stream = running.stub.Repeat(pb.RepeatRequest(count=1, fail_with=name))
                assert (await stream.read()).index == 0
                assert details(await failure(stream.read())).reason == "AS_ASKED"
            assert not any(in_flight(running))

    asyncio.run(main())


ODD_TEXTS = ["zwei\nZeilen", "naïve 日本語 \U0001f600", "nul \0 and %41 and \x7f", "long " * 200]


@pytest.mark.parametrize("text", ODD_TEXTS, ids=["lines", "unicode", "control", "long"])
def test_an_errors_text_survives_whatever_it_says(engine: str, text: str) -> None:
    def refuse(request: Any) -> None:
        raise errors.FailedPrecondition(text, reason="ODD_TEXT", metadata={"text": text})

    async def main() -> None:
        async with echo_server(engine=engine, policies={"Say": Policy(validator=refuse)}) as running:
            told = details(await failure(running.stub.Say(behave(), timeout=10)))
            assert (told.text, told.reason) == (text, "ODD_TEXT")
            assert text.startswith(told.metadata["text"].removesuffix("…"))

    asyncio.run(main())


def test_an_exception_nobody_expected_shows_nothing_of_itself(engine: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with echo_server(engine=engine) as running:
            for call in (
                running.stub.Say(behave(fail_with="canary-4711")),
                running.stub.Repeat(pb.RepeatRequest(count=1, fail_with="canary-4711")).read(),
            ):
                if asyncio.iscoroutine(call):
                    await call
                    continue
                told = details(await failure(call))
                assert told.code == grpc.StatusCode.INTERNAL
                assert told.reason == "INTERNAL"
                assert len(told.metadata["incident"]) == 12
                assert "canary" not in repr(told)
                assert any(told.metadata["incident"] in str(record.__dict__) for record in caplog.records)

    asyncio.run(main())


def test_a_method_that_is_not_there_says_so(engine: str) -> None:
    async def main() -> None:
        async with echo_server(engine=engine) as running:
            told = details(await failure(running.stub.Absent(pb.AbsentRequest())))
            assert (told.code, told.reason) == (grpc.StatusCode.UNIMPLEMENTED, "METHOD_NOT_IMPLEMENTED")
            assert told.metadata == {"method": "wellspring.bench.v1.Echo/Absent"}

    asyncio.run(main())


@pytest.mark.parametrize("raw", [b"\xff", b"\x0a\x05ab", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"])
def test_bytes_that_are_no_request_are_the_callers_mistake(engine: str, raw: bytes) -> None:
    async def main() -> None:
        async with echo_server(engine=engine) as running:
            channel: Any = running.channel
            call = channel.unary_unary(f"/{SAY}")
            told = details(await failure(call(raw)))
            assert (told.code, told.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_MALFORMED")
            assert running.servicer.worked == 0
            gather = channel.stream_unary("/wellspring.bench.v1.Echo/Gather")
            assert details(await failure(gather(iter([raw])))).reason == "REQUEST_MALFORMED"
            assert not any(in_flight(running))

    asyncio.run(main())


def test_validation_names_the_field_before_any_work(engine: str) -> None:
    async def main() -> None:
        async with echo_server(engine=engine) as running:
            told = details(await failure(running.stub.SayBatch(pb.SayBatchRequest(payloads=[b"a", b""]))))
            assert told.code == grpc.StatusCode.INVALID_ARGUMENT
            assert told.violations == [("payloads[1]", "is empty; at least one byte is expected")]
            assert running.servicer.worked == 0
            messages = [pb.GatherRequest(payload=b"a"), pb.GatherRequest()]
            told = details(await failure(running.stub.Gather(iter(messages))))
            assert told.violations == [("payload", "is empty; at least one byte is expected")]

    asyncio.run(main())


def test_a_call_without_a_deadline_gets_the_default(engine: str) -> None:
    async def main() -> None:
        async with echo_server(engine=engine, default_deadline_s=0.3, default_stream_deadline_s=0.2) as running:
            told = details(await failure(running.stub.Say(behave(wait_ms=60_000))))
            assert (told.code, told.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")
            assert running.servicer.last_call is not None and running.servicer.last_call.remaining_s == 0
            stream = running.stub.Repeat(pb.RepeatRequest(wait_ms=20))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                async for _ in stream:
                    pass
            assert details(caught.value).code == grpc.StatusCode.DEADLINE_EXCEEDED
            assert running.servicer.closed_streams == 1
            assert not any(in_flight(running))

    asyncio.run(main())


def test_no_call_gets_more_than_the_longest_deadline(engine: str) -> None:
    async def main() -> None:
        async with echo_server(engine=engine, max_deadline_s=0.2) as running:
            told = details(await failure(running.stub.Say(behave(wait_ms=60_000), timeout=600)))
            assert told.reason == "DEADLINE_EXCEEDED"

    asyncio.run(main())


def test_work_ends_at_the_callers_deadline(engine: str) -> None:
    async def main() -> None:
        async with echo_server(engine=engine) as running:
            codes = running.telemetry.rpc.of(SAY).codes
            async with asyncio.timeout(60):
                # On a busy machine the server may never hear of a call, or hear of the caller's end first.
                while not codes[Code.DEADLINE_EXCEEDED]:
                    error = await failure(running.stub.Say(behave(wait_ms=60_000), timeout=0.2))
                    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
                    await until(lambda: not any(in_flight(running)))
            assert not codes[Code.OK]

    asyncio.run(main())


def test_calls_above_the_limit_are_sent_away_and_told_when_to_come_back(engine: str) -> None:
    async def main() -> None:
        policies = {"Say": Policy(max_in_flight=2)}
        async with echo_server(engine=engine, policies=policies, overload_retry_s=0.25) as running:
            held = [running.stub.Say(behave(wait_ms=60_000)) for _ in range(2)]
            await until(lambda: running.servicer.worked == 2)
            told = details(await failure(running.stub.Say(behave())))
            assert (told.code, told.reason) == (grpc.StatusCode.UNAVAILABLE, "SERVER_OVERLOADED")
            assert told.retry_s == 0.25
            # The native engine refuses to send gRPC's own trailer; the time stands in RetryInfo either way.
            assert told.trailers.get("grpc-retry-pushback-ms") == ("250" if engine == "grpcio" else None)
            assert running.servicer.worked == 2
            # Another method has room of its own.
            await running.stub.SayBatch(pb.SayBatchRequest())
            for call in held:
                call.cancel()
            await until(lambda: not any(in_flight(running)))
            await running.stub.Say(behave())

    asyncio.run(main())


def test_places_are_given_back_however_a_call_ends(engine: str) -> None:
    async def main() -> None:
        async with echo_server(engine=engine, max_in_flight=3, max_open_streams=3) as running:
            for _ in range(4):
                await failure(running.stub.Say(behave(fail_with="NotFound")))
                await failure(running.stub.Say(behave(fail_with="unknown")))
                await failure(running.stub.Say(behave(wait_ms=60_000), timeout=0.03))
                # A call without a deadline: the one before may come only now, and end at once.
                call = running.stub.Say(behave(wait_ms=60_000), timeout=600)
                await until(lambda: running.servicer.last_call and running.servicer.last_call.remaining_s > 60)
                call.cancel()
                stream = running.stub.Repeat(pb.RepeatRequest(wait_ms=5))
                assert (await stream.read()).index == 0
                stream.cancel()
                await until(lambda: not any(in_flight(running)))
            assert running.servicer.closed_streams == 4
            # The server may hear of the caller's end before the deadline that was its reason.
            assert 4 <= running.telemetry.rpc.of(SAY).codes[Code.CANCELLED] <= 8

    asyncio.run(main())


def test_streams_are_bounded_apart_from_unary_calls(engine: str) -> None:
    async def main() -> None:
        async with echo_server(engine=engine, max_open_streams=2) as running:
            streams = [running.stub.Repeat(pb.RepeatRequest(wait_ms=5)) for _ in range(2)]
            for stream in streams:
                assert (await stream.read()).index == 0
            told = details(await failure(running.stub.Repeat(pb.RepeatRequest(count=1)).read()))
            assert told.reason == "SERVER_OVERLOADED"
            await running.stub.Say(behave())
            for stream in streams:
                stream.cancel()

    asyncio.run(main())


def test_a_reader_that_is_slow_holds_the_writer_back(engine: str) -> None:
    async def main() -> None:
        async with echo_server(engine=engine) as running:
            stream = running.stub.Repeat(pb.RepeatRequest(payload=bytes(1 << 16)))
            assert (await stream.read()).index == 0
            await asyncio.sleep(0.5)
            served = in_flight(running)
            assert any(served)
            # The window of one stream is a few megabytes at most: the writer waits long before a thousand messages.
            last = 0
            for _ in range(50):
                last = (await stream.read()).index
            assert last == 50
            stream.cancel()
            await until(lambda: not any(in_flight(running)))

    asyncio.run(main())


def test_a_message_above_the_limit_is_refused(engine: str) -> None:
    async def main() -> None:
        async with echo_server(engine=engine, max_message_bytes=4096) as running:
            error = await failure(running.stub.Say(pb.SayRequest(payload=bytes(5000))))
            assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert (await running.stub.Say(pb.SayRequest(payload=bytes(2000)))).payload == bytes(2000)

    asyncio.run(main())


def test_calls_are_counted_by_code(engine: str) -> None:
    async def main() -> None:
        async with echo_server(engine=engine) as running:
            for _ in range(3):
                await running.stub.Say(behave())
            await failure(running.stub.Say(behave(fail_with="NotFound")))
            numbers = running.telemetry.rpc.of(SAY)
            assert (numbers.codes[Code.OK], numbers.codes[Code.NOT_FOUND]) == (3, 1)
            assert sum(numbers.buckets) == 4
            assert numbers.seconds > 0

    asyncio.run(main())


def test_the_callers_metadata_reaches_the_servicer(engine: str) -> None:
    async def main() -> None:
        async with echo_server(engine=engine) as running:
            trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
            metadata = (("x-request-id", "req-1"), ("traceparent", trace), ("x-bin", b"\0\1"))
            said = await running.stub.Say(behave(), metadata=metadata)
            call = running.servicer.last_call
            assert call is not None
            assert (call.request_id, call.method) == ("req-1", SAY)
            assert call.metadata["x-bin"] == b"\0\1"
            assert said.traceparent.split("-")[1] == trace.split("-")[1]
            assert said.traceparent.split("-")[2] != trace.split("-")[2]
            assert said.traceparent.endswith("-01")
            await running.stub.Say(behave(), metadata=(("x-request-id", "y" * 65), ("traceparent", "00-zz")))
            other = running.servicer.last_call
            assert other is not None
            assert len(other.request_id) == 16 and other.request_id != "y" * 65

    asyncio.run(main())


def test_a_call_that_has_ended_is_freed_at_once_and_does_not_wait_for_the_collector(engine: str) -> None:
    async def main() -> None:
        async with echo_server(engine=engine) as running:
            gc.collect()
            gc.disable()
            try:
                await running.stub.SayBatch(pb.SayBatchRequest(payloads=[b"1"]), timeout=20)
                await until(lambda: not [one for one in gc.get_objects() if type(one) is Call])
            finally:
                gc.enable()

    asyncio.run(main())
