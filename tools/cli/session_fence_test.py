"""`wellspring session fence` and `unfence` as they are typed: what is asked of the service, and what is told."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from click.testing import CliRunner

from tools.cli.session import session
from wellspring.session.v1 import session_admin_pb2 as pb
from wellspring.session.v1 import session_admin_pb2_grpc


class Recorder(session_admin_pb2_grpc.SessionAdminServicer):
    """Says yes to everything, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.port = 0

    def FenceDatacentre(self, request: pb.FenceDatacentreRequest, context: Any) -> pb.FenceDatacentreResponse:
        self.asked.append(request)
        return pb.FenceDatacentreResponse()

    def UnfenceDatacentre(self, request: pb.UnfenceDatacentreRequest, context: Any) -> pb.UnfenceDatacentreResponse:
        self.asked.append(request)
        return pb.UnfenceDatacentreResponse()


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    servicer, server = Recorder(), grpc.server(ThreadPoolExecutor(1))  # type: ignore[abstract]
    session_admin_pb2_grpc.add_SessionAdminServicer_to_server(servicer, server)
    servicer.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield servicer
    finally:
        server.stop(None)


def test_a_data_centre_is_shut_out_and_let_in_again(recorder: Recorder) -> None:
    def run(*words: str) -> str:
        where = ["--address", f"session=127.0.0.1:{recorder.port}", "--timeout", "60"]
        done = CliRunner().invoke(session, [*words, *where], standalone_mode=False)
        assert done.exception is None
        return done.output

    assert run("fence", "dc2", "--reason", "burnt down") == "dc2 is shut out\n"
    assert json.loads(run("unfence", "dc2", "--json")) == {"datacentre": "dc2", "fenced": False}
    assert recorder.asked == [
        pb.FenceDatacentreRequest(datacentre="dc2", reason="burnt down"),
        pb.UnfenceDatacentreRequest(datacentre="dc2"),
    ]
