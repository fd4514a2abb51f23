"""A refusal that comes while the client still writes is told as the server said it."""

import asyncio
import subprocess
import sys
import time
from typing import cast

import grpc
import pytest

from libs.rpc.testing.harness import environment
from wellspring_client.endings import Ending

SERVER = """
import asyncio, grpc
async def refuse(requests, call):
    await call.abort(grpc.StatusCode.FAILED_PRECONDITION, "refused", (("why", "a test"),))
async def main():
    server = grpc.aio.server()
    handlers = {"Upload": grpc.stream_unary_rpc_method_handler(refuse)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Refusing", handlers),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await server.wait_for_termination()
asyncio.run(main())
"""
CALLS = 300


@pytest.fixture
def port():
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], env=environment(), stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            yield int(server.stdout.readline())
        finally:
            server.kill()


async def chunks():
    for at in range(64):
        yield bytes(65536)
        if not at:
            time.sleep(0.02)  # noqa: ASYNC251 - what the server says and the write that fails come at once


def test_whatever_comes_first_the_refusal_is_told(port):
    async def main():
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            upload = channel.stream_unary("/Refusing/Upload")
            for _ in range(CALLS):
                call = upload(chunks(), timeout=60)
                ending = Ending(call)
                with pytest.raises(grpc.aio.AioRpcError) as told:
                    await call
                said = ending.of(told.value)
                assert (said.code(), said.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "refused")
                assert dict(said.trailing_metadata())["why"] == "a test"

    asyncio.run(main())


class Twice:
    """A call that had two statuses, the second one after its callbacks."""

    def __init__(self, *statuses):
        self._statuses = list(statuses)

    def add_done_callback(self, callback):
        callback(self)

    async def code(self):
        return self._statuses[0].code()

    async def details(self):
        return self._statuses[0].details()

    async def initial_metadata(self):
        return None

    async def trailing_metadata(self):
        return None


def twice(first):
    return cast("grpc.aio.Call", Twice(first))


def status(code, details):
    return grpc.aio.AioRpcError(code, None, None, details, None)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("said", [grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INTERNAL])
def test_what_the_server_said_is_told_in_either_order(order, said):
    both = [status(said, "of the server"), status(grpc.StatusCode.INTERNAL, "Internal error from Core")]
    first, last = (both[at] for at in order)
    told = Ending(twice(first)).of(last)
    assert (told.code(), told.details()) == (said, "of the server")


def test_an_upload_that_was_answered_early_is_not_told_as_refused():
    last = status(grpc.StatusCode.INTERNAL, "Internal error from Core")
    assert Ending(twice(status(grpc.StatusCode.OK, ""))).of(last) is last


def test_an_ending_of_its_own_is_told():
    last = status(grpc.StatusCode.DEADLINE_EXCEEDED, "late")
    assert Ending(twice(status(grpc.StatusCode.NOT_FOUND, "of the server"))).of(last) is last
