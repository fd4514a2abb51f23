"""The server around the pipeline: health, diagnostics, resources, background work, drain, refusals to start."""

import asyncio
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from libs.rpc.options import ServerOptions
from libs.rpc.policy import Policy
from libs.rpc.server import HEALTH, Server
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
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110  (the condition is anything)
            await asyncio.sleep(0.005)


async def until_health(server: Server, service: str, status: int) -> None:
    async with asyncio.timeout(60):
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
def test_a_server_that_is_merely_busy_does_not_look_dead(engine: str) -> None:
    async def main() -> None:
        async with echo_server(engine=engine, max_in_flight=1) as running:
            behaviour = pb.Behaviour(wait_ms=60_000)
            held = running.stub.Say(pb.SayRequest(behaviour=behaviour))
            await until(lambda: running.servicer.worked)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await running.stub.Say(pb.SayRequest())
            assert details(caught.value).reason == "SERVER_OVERLOADED"
            assert await health_of(running.server, SERVICE.full_name) == SERVING
            held.cancel()

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
                async with asyncio.timeout(60):
                    while True:
                        await stream.read()
            told = details(caught.value)
            assert (told.code, told.reason) == (grpc.StatusCode.UNAVAILABLE, "SERVER_DRAINING")
            async with asyncio.timeout(60):
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
        async with server, asyncio.timeout(60):
            await server.stopping.wait()
            assert server.failed

    asyncio.run(main())


class Registered:
    """A server of grpcio's, as far as methods go."""

    def __init__(self) -> None:
        self.by_name: dict[str, Any] = {}
        self.generic: Any = None

    def add_registered_method_handlers(self, name: str, handlers: dict[str, Any]) -> None:
        self.by_name |= {f"/{name}/{method}": handler for method, handler in handlers.items()}

    def add_generic_rpc_handlers(self, handlers: tuple[Any, ...]) -> None:
        (self.generic,) = handlers

    def add_insecure_port(self, address: str) -> int:
        return 1

    async def start(self) -> None:
        pass

    async def stop(self, grace_s: float) -> None:
        pass


def test_grpcio_waits_for_health_apart_and_for_all_else_in_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = Registered()
    monkeypatch.setattr(grpc.aio, "server", lambda **_: raw)
    server = new_server()
    server.add_service(SERVICE, EchoServicer())

    async def main() -> None:
        async with server:
            pass

    asyncio.run(main())

    def found(path: str) -> Any:
        return raw.generic.service(SimpleNamespace(method=path))

    assert set(raw.by_name) == {f"/{HEALTH.full_name}/{method.name}" for method in HEALTH.methods}
    assert found(f"/{SERVICE.full_name}/Say") is server._services[SERVICE.full_name].handlers["Say"]
    assert found("/grpc.channelz.v1.Channelz/GetServers") is not None
    assert found(f"/{HEALTH.full_name}/Check") is None and found(f"/{SERVICE.full_name}/Says") is None
