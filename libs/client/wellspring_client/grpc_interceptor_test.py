"""Sessions of gRPC servers: every kind of method knows who calls, and calls of nobody are refused."""

import asyncio

import grpc
import pytest

from wellspring_client.errors import QuotaExceeded, SessionInvalid, Unavailable
from wellspring_client.grpc_interceptor import SessionInterceptor, current_session
from wellspring_client.known_sessions import Verified


class Known:
    """Stands for a verifier."""

    async def check(self, credential, *, address=""):
        answers = {
            "good": Verified("web", "alice", 1, (), None, b""),
            "away": Unavailable("x"),
            "many": QuotaExceeded("x"),
        }
        found = answers.get(credential, SessionInvalid("x"))
        if isinstance(found, Exception):
            raise found
        assert address == "127.0.0.1"
        return found


def who():
    found = current_session()
    return found.subject.encode() if found else b"nobody"


async def unary(request, context):
    return who()


async def stream(request, context):
    yield who()
    await asyncio.sleep(0)
    yield who()


async def writing(request, context):
    await context.write(who())
    await context.write(who())


async def collecting(requests, context):
    return who() + b"".join([one async for one in requests])


async def both(requests, context):
    async for one in requests:
        yield who() + one


def calling(test, **settings):
    async def main():
        handlers = {
            "U": grpc.unary_unary_rpc_method_handler(unary),
            "S": grpc.unary_stream_rpc_method_handler(stream),
            "W": grpc.unary_stream_rpc_method_handler(writing),
            "C": grpc.stream_unary_rpc_method_handler(collecting),
            "B": grpc.stream_stream_rpc_method_handler(both),
        }
        server = grpc.aio.server(interceptors=[SessionInterceptor(Known(), **settings)])
        server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler("x.Y", handlers),
                grpc.method_handlers_generic_handler("x.Open", handlers),
            )
        )
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await test(channel)
        await server.stop(0)

    asyncio.run(main())


async def several(*parts):
    for one in parts:
        yield one


def bearer(text):
    return (("authorization", text),)


def test_every_kind_of_grpc_method_knows_who_calls():
    async def test(channel):
        good = bearer("Bearer good")
        assert await channel.unary_unary("/x.Y/U")(b"", metadata=good) == b"alice"
        for name in ("S", "W"):
            assert [one async for one in channel.unary_stream(f"/x.Y/{name}")(b"", metadata=good)] == [b"alice"] * 2
        assert await channel.stream_unary("/x.Y/C")(several(b"1", b"2"), metadata=good) == b"alice12"
        answers = channel.stream_stream("/x.Y/B")(several(b"1", b"2"), metadata=good)
        assert [one async for one in answers] == [b"alice1", b"alice2"]
        assert await channel.unary_unary("/x.Open/U")(b"") == b"nobody"

    calling(test, open_methods=["/x.Open/"])


@pytest.mark.parametrize(
    ("metadata", "code"),
    [
        ((), grpc.StatusCode.UNAUTHENTICATED),
        (bearer("good"), grpc.StatusCode.UNAUTHENTICATED),
        (bearer("basic good"), grpc.StatusCode.UNAUTHENTICATED),
        (bearer("bearer good") * 2, grpc.StatusCode.UNAUTHENTICATED),
        (bearer("bearer canary"), grpc.StatusCode.UNAUTHENTICATED),
        (bearer("bearer "), grpc.StatusCode.UNAUTHENTICATED),
        (bearer("bearer away"), grpc.StatusCode.UNAVAILABLE),
        (bearer("bearer many"), grpc.StatusCode.RESOURCE_EXHAUSTED),
    ],
)
def test_calls_of_nobody_are_refused_in_every_kind_of_method(metadata, code):
    async def test(channel):
        calls = [
            channel.unary_unary("/x.Y/U")(b"", metadata=metadata),
            channel.stream_unary("/x.Y/C")(several(b"1"), metadata=metadata),
            anext(aiter(channel.unary_stream("/x.Y/S")(b"", metadata=metadata))),
            anext(aiter(channel.stream_stream("/x.Y/B")(several(b"1"), metadata=metadata))),
        ]
        for call in calls:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() is code and "canary" not in str(caught.value)

    calling(test)


def test_a_session_that_is_not_required_may_be_missing_but_not_worthless():
    async def test(channel):
        assert await channel.unary_unary("/x.Y/U")(b"") == b"nobody"
        with pytest.raises(grpc.aio.AioRpcError):
            await channel.unary_unary("/x.Y/U")(b"", metadata=bearer("bearer bad"))

    calling(test, required=False)
