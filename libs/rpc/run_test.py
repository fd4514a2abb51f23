"""What `run` does to the interpreter once a server takes calls."""

import asyncio
import gc
import sys

from libs.rpc.options import ServerOptions
from libs.rpc.run import run
from libs.rpc.server import Server


def test_what_is_there_once_calls_are_taken_is_not_collected_again_and_threads_come_back_soon() -> None:
    usual_s = sys.getswitchinterval()
    seen: list[float] = []

    async def build(server: Server) -> None:
        async def look() -> None:
            while not gc.get_freeze_count():  # noqa: ASYNC110  (the collector tells nobody)
                await asyncio.sleep(0.01)
            seen.append(sys.getswitchinterval())
            server.stopping.set()
            await asyncio.Event().wait()

        server.add_background("look", look)

    try:
        assert run(build, ServerOptions(service="echo", listen=("127.0.0.1:0",), drain_wait_s=0.0)) == 0
    finally:
        gc.unfreeze()
        sys.setswitchinterval(usual_s)
    assert seen and seen[0] < usual_s
