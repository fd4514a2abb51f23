"""The server around the pipeline: health, diagnostics, resources, background work, drain, refusals to start."""

import asyncio
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from libs.auth.options import AuthOptions
from libs.rpc.listen import parse_address
from libs.rpc.options import ServerOptions, StartError, TlsOptions
from libs.rpc.policy import Policy
from libs.rpc.server import Server
from libs.rpc.testing.echo import SERVICE, EchoServicer, Oops
from libs.rpc.testing.harness import ENGINES, details, echo_server
from libs.telemetry.options import TelemetryOptions
from libs.telemetry.telemetry import Telemetry
from wellspring.bench.v1 import echo_pb2 as pb

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def new_server(**options: Any) -> Server:
    given: dict[str, Any] = {"service": "echo", "drain_wait_s": 0.0, "health_interval_s": 0.02} | options
    return Server(ServerOptions(**given), Telemetry(TelemetryOptions(), "echo"))


async def health_of(server: Server, service: str) -> int:
    async with grpc.aio.insecure_channel(server.addresses[0]) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
        return int(answer.status)


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  (the condition is anything)
            await asyncio.sleep(0.005)


async def until_health(server: Server, service: str, status: int) -> None:
    async with asyncio.timeout(10):
        while await health_of(server, service) != status:  # noqa: ASYNC110  (asked over the wire)
            await asyncio.sleep(0.01)


class Switch:
    """A resource that can be told to be unwell, and keeps a diary."""

    def __init__(self, name: str, diary: list[str]) -> None:
        self.name, self.diary, self.well, self.stuck = name, diary, True, False

    async def made(self) -> "Switch":
        self.diary.append(f"made {self.name}")
        return self

    async def close(self) -> None:
        self.diary.append(f"closed {self.name}")

    async def health(self) -> None:
        if self.stuck:
            await asyncio.sleep(60)
        if not self.well:
            raise Oops("the database's own words")


async def add(server: Server, switch: Switch) -> None:
    await server.resources.add(switch.name, switch.made, close=Switch.close, health=Switch.health)


@pytest.mark.parametrize("engine", ENGINES)
def test_health_follows_the_dependencies_of_each_service(engine: str) -> None:
    async def main() -> None:
        server = new_server(engine=engine, health_timeout_s=0.1)
        store, cache = Switch("store", []), Switch("cache", [])
        await add(server, store)
        await add(server, cache)
        server.add_service(SERVICE, EchoServicer(), depends_on=["store"])
        async with server:
            name = SERVICE.full_name
            assert await health_of(server, name) == SERVING
            cache.well = False
            await until_health(server, "", NOT_SERVING)
            assert await health_of(server, name) == SERVING
            store.stuck = True
            await until_health(server, name, NOT_SERVING)
            store.stuck, cache.well = False, True
            await until_health(server, "", SERVING)
            assert await health_of(server, name) == SERVING
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await health_of(server, "no.such.Service")
            assert details(caught.value).reason == "SERVICE_NOT_FOUND"

    asyncio.run(main())


@pytest.mark.parametrize("engine", ENGINES)
def test_a_watcher_of_health_hears_of_every_change_and_of_the_end(engine: str) -> None:
    async def main() -> None:
        server = new_server(engine=engine, drain_wait_s=0.3)
        store = Switch("store", [])
        await add(server, store)
        server.add_service(SERVICE, EchoServicer())
        await server.start()
        async with grpc.aio.insecure_channel(server.addresses[0]) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            watch = stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE.full_name))
            assert (await watch.read()).status == SERVING
            store.well = False
            assert (await watch.read()).status == NOT_SERVING
            store.well = True
            assert (await watch.read()).status == SERVING
            stopping = asyncio.ensure_future(server.stop())
            assert (await watch.read()).status == NOT_SERVING
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await watch.read()
            assert details(caught.value).reason == "SERVER_DRAINING"
            await stopping

    asyncio.run(main())


@pytest.mark.parametrize("engine", ENGINES)
def test_reflection_and_channelz_answer_on_loopback(engine: str) -> None:
    async def main() -> None:
        async with echo_server(engine=engine) as running:
            reflect: Any = reflection_pb2_grpc.ServerReflectionStub(running.channel)
            asked = reflection_pb2.ServerReflectionRequest(list_services="")
            answers = [answer async for answer in reflect.ServerReflectionInfo(iter([asked]))]
            names = {service.name for service in answers[0].list_services_response.service}
            assert {SERVICE.full_name, "grpc.health.v1.Health"} <= names
            asked = reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE.full_name)
            answers = [answer async for answer in reflect.ServerReflectionInfo(iter([asked]))]
            assert answers[0].file_descriptor_response.file_descriptor_proto
            channelz: Any = channelz_pb2_grpc.ChannelzStub(running.channel)
            top = await channelz.GetTopChannels(channelz_pb2.GetTopChannelsRequest())
            assert top.end
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channelz.GetServer(channelz_pb2.GetServerRequest(server_id=1 << 40))
            assert details(caught.value).reason == "CHANNELZ_NOT_FOUND"

    asyncio.run(main())


def test_reflection_and_channelz_can_be_switched_off() -> None:
    async def main() -> None:
        async with echo_server(reflection=False, channelz=False) as running:
            channelz: Any = channelz_pb2_grpc.ChannelzStub(running.channel)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channelz.GetTopChannels(channelz_pb2.GetTopChannelsRequest())
            assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED

    asyncio.run(main())


@pytest.mark.parametrize("engine", ENGINES)
def test_calls_under_way_end_well_before_the_resources_close(engine: str) -> None:
    async def main() -> None:
        diary: list[str] = []
        server = new_server(engine=engine, drain_grace_s=10.0)
        for name in ("first", "second"):
            await add(server, Switch(name, diary))

        async def beside() -> None:
            try:
                await asyncio.sleep(3600)
            finally:
                diary.append("background ended")

        class Servicer(EchoServicer):
            async def Say(self, request: pb.SayRequest, call: Any) -> pb.SayResponse:
                answer = await super().Say(request, call)
                diary.append("answered")
                return answer

        servicer = Servicer()
        server.add_background("beside", beside)
        server.add_service(SERVICE, servicer, {"Repeat": Policy(endless=True)})
        await server.start()
        async with grpc.aio.insecure_channel(server.addresses[0]) as channel:
            say: Any = channel.unary_unary(
                f"/{SERVICE.full_name}/Say", pb.SayRequest.SerializeToString, pb.SayResponse.FromString
            )
            behaviour = pb.Behaviour(wait_ms=300)
            under_way = asyncio.ensure_future(say(pb.SayRequest(payload=b"x", behaviour=behaviour)))
            await until(lambda: servicer.worked)
            await server.stop()
            assert (await under_way).payload == b"x"
        assert diary == ["made first", "made second", "answered", "background ended", "closed second", "closed first"]

    asyncio.run(main())


@pytest.mark.parametrize("engine", ENGINES)
def test_an_endless_stream_is_sent_elsewhere_when_the_server_stops(engine: str) -> None:
    async def main() -> None:
        async with echo_server(engine=engine, drain_grace_s=30.0) as running:
            stream = running.stub.Repeat(pb.RepeatRequest(wait_ms=5))
            assert (await stream.read()).index == 0
            stopping = asyncio.ensure_future(running.server.stop())
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                async with asyncio.timeout(10):
                    while True:
                        await stream.read()
            told = details(caught.value)
            assert (told.code, told.reason) == (grpc.StatusCode.UNAVAILABLE, "SERVER_DRAINING")
            async with asyncio.timeout(10):
                await stopping
            assert running.servicer.closed_streams == 1

    asyncio.run(main())


def test_a_resource_that_does_not_close_does_not_keep_the_others_open() -> None:
    async def main() -> None:
        diary: list[str] = []
        server = new_server()
        await add(server, Switch("first", diary))

        async def bad(_: str) -> None:
            raise Oops("cannot close")

        async def made() -> str:
            return "x"

        await server.resources.add("bad", made, close=bad)
        with pytest.raises(ValueError, match="two resources"):
            await server.resources.add("bad", made)
        await server.stop()
        assert diary == ["made first", "closed first"]

    asyncio.run(main())


def test_background_work_that_fails_ends_the_server() -> None:
    async def main() -> None:
        server = new_server()

        async def fails() -> None:
            raise Oops("secret text")

        server.add_background("fails", fails)
        server.add_service(SERVICE, EchoServicer())
        async with server, asyncio.timeout(10):
            await server.stopping.wait()
            assert server.failed

    asyncio.run(main())


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
