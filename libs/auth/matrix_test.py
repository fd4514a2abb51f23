"""Who may call what, with real certificates over real connections: every caller against every method."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from libs.auth.options import AuthOptions
from libs.rpc.options import TlsOptions
from libs.rpc.testing.certificates import Authority, Certificate
from libs.rpc.testing.harness import Running, details, echo_server
from wellspring.bench.v1 import echo_pb2 as pb
from wellspring.bench.v1 import echo_pb2_grpc

ECHO = "wellspring.bench.v1.Echo"
RULES = AuthOptions(
    rules={
        "spiffe://wiki/render/*": [f"{ECHO}/Say", f"{ECHO}/Repeat"],
        "spiffe://wiki/admin": ["**"],
        "cn:batch": [f"{ECHO}/SayBatch"],
    }
)
METHODS = ("Say", "SayBatch", "Repeat", "Gather", "Absent", "Health")
OK, DENIED, NOBODY, NO_TLS, ABSENT = "OK", "PERMISSION_DENIED", "UNAUTHENTICATED", "UNAVAILABLE", "UNIMPLEMENTED"
EXPECTED = {
    "render": (OK, DENIED, OK, DENIED, DENIED, OK),
    "render below": (DENIED, DENIED, DENIED, DENIED, DENIED, OK),
    "admin": (OK, OK, OK, OK, ABSENT, OK),
    "batch": (DENIED, OK, DENIED, DENIED, DENIED, OK),
    "batch with a name": (DENIED, DENIED, DENIED, DENIED, DENIED, OK),
    "pretends by common name": (DENIED, DENIED, DENIED, DENIED, DENIED, OK),
    "two names": (NOBODY,) * 6,
    "no name": (NOBODY,) * 6,
    "of another authority": (NO_TLS,) * 6,
    "expired": (NO_TLS,) * 6,
    "without a certificate": (NO_TLS,) * 6,
}


def callers(authority: Authority) -> dict[str, Certificate | None]:
    return {
        "render": authority.issue("anything", uris=("spiffe://wiki/render/7",)),
        "render below": authority.issue(uris=("spiffe://wiki/render/7/x",)),
        "admin": authority.issue(uris=("spiffe://wiki/admin",), dns=("admin.wiki.example",)),
        "batch": authority.issue("batch"),
        "batch with a name": authority.issue("batch", uris=("spiffe://wiki/other",)),
        "pretends by common name": authority.issue("spiffe://wiki/admin"),
        "two names": authority.issue(uris=("spiffe://wiki/admin", "spiffe://wiki/render/1")),
        "no name": authority.issue(dns=("wiki.example",)),
        "of another authority": Authority().issue(uris=("spiffe://wiki/admin",)),
        "expired": authority.issue(uris=("spiffe://wiki/admin",), expired=True),
        "without a certificate": None,
    }


def tls_options(authority: Authority, folder: Path) -> TlsOptions:
    certificate, key = authority.issue("server", addresses=("127.0.0.1",)).write(folder, "server")
    ca = folder / "ca.crt"
    ca.write_bytes(authority.pem)
    return TlsOptions(certificate, key, str(ca))


@asynccontextmanager
async def channel_of(running: Running, authority: Authority, caller: Certificate | None) -> AsyncIterator[Any]:
    credentials = grpc.ssl_channel_credentials(
        authority.pem, None if caller is None else caller.key, None if caller is None else caller.chain
    )
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.secure_channel(running.server.addresses[0], credentials, options=options) as channel:
        yield channel


async def outcome(channel: Any, method: str) -> str:
    stub: Any = echo_pb2_grpc.EchoStub(channel)
    try:
        if method == "Health":
            health: Any = health_pb2_grpc.HealthStub(channel)
            await health.Check(health_pb2.HealthCheckRequest(), timeout=30)
        elif method == "Repeat":
            async for _ in stub.Repeat(pb.RepeatRequest(count=1), timeout=30):
                pass
        elif method == "Gather":
            await stub.Gather(iter([pb.GatherRequest(payload=b"x")]), timeout=30)
        else:
            await getattr(stub, method)(getattr(pb, f"{method}Request")(), timeout=30)
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            details(error)
        return error.code().name
    return OK


def overwrite(name: str, content: bytes) -> None:
    Path(name).write_bytes(content)


def test_every_caller_against_every_method(tmp_path: Path) -> None:
    async def main() -> None:
        authority = Authority()
        async with echo_server(tls=tls_options(authority, tmp_path), auth=RULES) as running:
            found = {}
            for name, caller in callers(authority).items():
                async with channel_of(running, authority, caller) as channel:
                    found[name] = tuple([await outcome(channel, method) for method in METHODS])
            assert found == EXPECTED
            assert running.servicer.worked == sum(row[:4].count(OK) for row in EXPECTED.values())

    asyncio.run(main())


def test_the_servicer_sees_the_verified_identity(tmp_path: Path) -> None:
    async def main() -> None:
        authority = Authority()
        async with echo_server(tls=tls_options(authority, tmp_path), auth=RULES) as running:
            caller = authority.issue(uris=("spiffe://wiki/render/7",))
            async with channel_of(running, authority, caller) as channel:
                stub: Any = echo_pb2_grpc.EchoStub(channel)
                # What a caller says of itself in metadata counts for nothing.
                said = await stub.Say(pb.SayRequest(), metadata=(("x-identity", "spiffe://wiki/admin"),))
                assert said.identity == "spiffe://wiki/render/7"
            async with channel_of(running, authority, authority.issue("batch")) as channel:
                told = None
                try:
                    await echo_pb2_grpc.EchoStub(channel).Say(pb.SayRequest())
                except grpc.aio.AioRpcError as error:
                    told = details(error)
                assert told is not None
                assert (told.reason, told.metadata) == (
                    "METHOD_NOT_ALLOWED",
                    {"identity": "cn:batch", "method": f"{ECHO}/Say"},
                )

    asyncio.run(main())


def test_a_listener_open_to_other_machines_works_with_certificates_and_rules(tmp_path: Path) -> None:
    async def main() -> None:
        authority = Authority()
        tls = tls_options(authority, tmp_path)
        async with echo_server(tls=tls, auth=RULES, listen=("0.0.0.0:0",)) as running:
            port = running.server.addresses[0].rpartition(":")[2]
            credentials = grpc.ssl_channel_credentials(authority.pem)
            caller = authority.issue(uris=("spiffe://wiki/admin",))
            credentials = grpc.ssl_channel_credentials(authority.pem, caller.key, caller.chain)
            async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials) as channel:
                assert await outcome(channel, "Say") == OK
                # Channelz tells of all connections: it is served on loopback listeners only.
                ask: Any = channel.unary_unary("/grpc.channelz.v1.Channelz/GetServers")  # type: ignore[call-arg]
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await ask(b"")
                assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED

    asyncio.run(main())


def test_rules_without_certificates_deny_on_loopback_too() -> None:
    async def main() -> None:
        async with echo_server(auth=RULES) as running:
            found = [await outcome(running.channel, method) for method in METHODS]
            assert found == [NOBODY] * 5 + [OK]
        anonymous = AuthOptions(rules={"anonymous": [f"{ECHO}/Say"]})
        async with echo_server(auth=anonymous) as running:
            assert await outcome(running.channel, "Say") == OK
            assert await outcome(running.channel, "SayBatch") == NOBODY

    asyncio.run(main())


def test_a_rotated_certificate_is_served_without_a_restart(tmp_path: Path) -> None:
    async def main() -> None:
        old, new = Authority("old"), Authority("new")
        tls = tls_options(old, tmp_path)
        async with echo_server(tls=tls, auth=RULES) as running:
            caller = old.issue(uris=("spiffe://wiki/admin",))
            async with channel_of(running, old, caller) as channel:
                assert await outcome(channel, "Say") == OK
            # The new authority signs everything from now on; a half-written file changes nothing.
            overwrite(tls.key_file, b"half")
            async with channel_of(running, old, caller) as channel:
                assert await outcome(channel, "Say") == OK
            tls_options(new, tmp_path)
            os.utime(tls.certificate_file, ns=(1, 1))
            async with channel_of(running, new, new.issue(uris=("spiffe://wiki/admin",))) as channel:
                assert await outcome(channel, "Say") == OK
            async with channel_of(running, old, caller) as channel:
                assert await outcome(channel, "Say") == NO_TLS

    asyncio.run(main())
