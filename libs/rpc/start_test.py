"""Addresses and options at the start: what is served, and what is refused with its cure."""

import asyncio
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from libs.auth.options import AuthOptions
from libs.rpc.listen import parse_address
from libs.rpc.options import ServerOptions, StartError, TlsOptions
from libs.rpc.policy import Policy
from libs.rpc.server import Server
from libs.rpc.testing.echo import SERVICE, EchoServicer
from libs.rpc.testing.harness import ENGINES, echo_server
from libs.telemetry.options import TelemetryOptions
from libs.telemetry.telemetry import Telemetry
from wellspring.bench.v1 import echo_pb2 as pb

SERVING = health_pb2.HealthCheckResponse.SERVING


def new_server(**options: Any) -> Server:
    given: dict[str, Any] = {"service": "echo", "drain_wait_s": 0.0} | options
    return Server(ServerOptions(**given), Telemetry(TelemetryOptions(), "echo"))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_port_in_use_is_named(engine: str) -> None:
    async def main() -> None:
        async with echo_server(engine=engine) as running:
            taken = running.server.addresses[0]
            other = new_server(engine=engine, listen=(taken,))
            with pytest.raises(StartError, match=f"cannot listen on {taken}: another process listens there"):
                async with other:
                    pass
            await running.stub.Say(pb.SayRequest())

    asyncio.run(main())


@pytest.fixture
def short() -> Iterator[str]:
    """A folder whose path is short enough for a Unix socket's, however deep the test's own folder lies."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield folder


@pytest.mark.parametrize("engine", ENGINES)
def test_a_unix_socket_is_served_and_never_stolen(engine: str, short: str) -> None:
    async def main() -> None:
        listen = (f"unix:{short}/echo.sock",)
        async with echo_server(engine=engine, listen=listen) as running:
            await running.stub.Say(pb.SayRequest())
            with pytest.raises(StartError, match="another process listens there"):
                async with new_server(engine=engine, listen=listen):
                    pass
            await running.stub.Say(pb.SayRequest())
        # What a process that was killed left behind is no obstacle; what somebody else keeps there is.
        left = socket.socket(socket.AF_UNIX)
        left.bind(f"{short}/left.sock")
        left.close()
        async with echo_server(engine=engine, listen=(f"unix:{short}/left.sock",)) as running:
            await running.stub.Say(pb.SayRequest())
        with pytest.raises(StartError, match="not a socket"):
            async with new_server(engine=engine, listen=(f"unix:{short}/file",)):
                pass

    Path(short, "file").write_text("precious")
    asyncio.run(main())
    assert Path(short, "file").read_text() == "precious"


def test_several_listeners() -> None:
    async def main() -> None:
        async with echo_server(listen=("127.0.0.1:0", "127.0.0.2:0", "[::1]:0")) as running:
            for address in running.server.addresses:
                async with grpc.aio.insecure_channel(address) as channel:
                    stub: Any = health_pb2_grpc.HealthStub(channel)
                    assert (await stub.Check(health_pb2.HealthCheckRequest())).status == SERVING

    asyncio.run(main())


TLS = TlsOptions("/nowhere/cert.pem", "/nowhere/key.pem")
RULES = AuthOptions(rules={"**": ["**"]})


@pytest.mark.parametrize(
    ("options", "auth", "says"),
    [
        ({"listen": ("0.0.0.0:0",)}, None, "open to other machines, which needs server.tls and auth.rules"),
        ({"listen": ("[::]:0",), "tls": TLS}, RULES, "which needs server.tls.client_ca_file"),
        ({"listen": ("192.0.2.1:80",)}, RULES, "which needs server.tls;"),
        ({"listen": ()}, None, "server.listen is empty"),
        ({"listen": ("example.org:80",)}, None, "'example.org' is not an IP address"),
        ({"listen": ("127.0.0.1",)}, None, "host:port"),
        ({"listen": ("127.0.0.1:99999",)}, None, "0 to 65535"),
        ({"listen": ("::1:80",)}, None, "in brackets"),
        ({"listen": ("unix:relative",)}, None, "absolute path"),
        ({"workers": 0}, None, "server.workers is 0; 1 is the least allowed"),
        ({"default_deadline_s": float("nan")}, None, "server.default_deadline_s is nan"),
        ({"engine": "nginx"}, None, "grpcio and native are allowed"),
        ({}, AuthOptions(rules={"a": ["Get"]}), "package.Service/Method"),
        ({}, AuthOptions(rules={"a": "**"}), "is one string"),
        ({}, AuthOptions(rules={"": ["**"]}), "is empty"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_cure(options: dict[str, Any], auth: Any, says: str) -> None:
    async def main() -> None:
        with pytest.raises(StartError) as caught:
            Server(ServerOptions(**({"service": "x"} | options)), Telemetry(TelemetryOptions(), "x"), auth=auth)
        assert says in str(caught.value)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"engine": "native", "tls": TLS}, "has no TLS: put a TLS proxy"),
        ({"engine": "native", "listen": ("127.0.0.1:0", "127.0.0.2:0")}, "listens on one address"),
        ({"tls": TLS}, "cannot read /nowhere/cert.pem"),
        ({"listen": ("192.0.2.77:0",), "tls": TlsOptions("a", "b", "c")}, "cannot read a"),
    ],
)
def test_what_cannot_start_is_refused_with_its_cure(options: dict[str, Any], says: str) -> None:
    async def main() -> None:
        given: dict[str, Any] = {"service": "x", "drain_wait_s": 0.0} | options
        server = Server(ServerOptions(**given), Telemetry(TelemetryOptions(), "x"), auth=RULES)
        with pytest.raises(StartError) as caught:
            async with server:
                pass
        assert says in str(caught.value)

    asyncio.run(main())


def test_services_are_registered_once_and_policies_name_methods() -> None:
    async def main() -> None:
        server = new_server()
        server.add_service(SERVICE, EchoServicer())
        with pytest.raises(StartError, match="two servicers"):
            server.add_service(SERVICE, EchoServicer())
        with pytest.raises(StartError, match="methods it has not: Sya"):
            new_server().add_service(SERVICE, EchoServicer(), {"Sya": Policy()})
        other = new_server()
        other.add_service(SERVICE, EchoServicer(), depends_on=["nothing"])
        with pytest.raises(StartError, match="nothing of wellspring.bench.v1.Echo"):
            async with other:
                pass

    asyncio.run(main())


def test_addresses_are_written_as_they_are_read() -> None:
    for text in ("127.0.0.1:1", "[::1]:2", "unix:/run/x"):
        assert str(parse_address(text)) == text
        assert parse_address(text).loopback
    assert parse_address("localhost:5").host == "127.0.0.1"
    assert not parse_address("10.0.0.1:5").loopback
