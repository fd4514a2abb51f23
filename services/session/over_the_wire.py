"""A whole service over an embedded store behind gRPC, for the tests that look at what callers see."""

import asyncio
import tempfile
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from libs.clock.clock import SystemClock
from libs.paging.paging import PageTokens
from libs.rpc.options import ServerOptions
from libs.rpc.server import Server
from libs.telemetry.options import TelemetryOptions
from libs.telemetry.telemetry import Telemetry
from services.session.admin_servicer import SessionAdminServicer
from services.session.conformance.harness import Service, opened, service
from services.session.crypto import keyring as keyrings
from services.session.domain.guesses import Guesses, GuessLimits
from services.session.domain.quotas import Limits, Quotas
from services.session.domain.rekeying import Rekeying
from services.session.keyring_file import File, Notes
from services.session.servicer import SessionsServicer
from wellspring.session.v1 import session_admin_pb2 as admin_pb
from wellspring.session.v1 import session_admin_pb2_grpc, session_pb2_grpc
from wellspring.session.v1 import session_pb2 as pb


class Running:
    """The service `s` in process, stubs of both its interfaces, and the keyring's file."""

    def __init__(self, s: Service, channel: grpc.aio.Channel, keyring: Path) -> None:
        self.s = s
        self.keyring = keyring
        self.sessions: Any = session_pb2_grpc.SessionsStub(channel)
        self.admin: Any = session_admin_pb2_grpc.SessionAdminStub(channel)

    async def create(self, subject: str = "alice", realm: str = "web", **more: Any) -> pb.CreateResponse:
        """A login by any means."""
        assurance = pb.Assurance(level=1) if subject else None
        more.setdefault("request_id", str(uuid.uuid4()))
        request = pb.CreateRequest(realm=realm, subject=subject, assurance=assurance, **more)
        answer: pb.CreateResponse = await self.sessions.Create(request)
        return answer

    async def validate(self, token: pb.Secret, realm: str = "web", **more: Any) -> pb.ValidateResponse:
        """Whose it is."""
        answer: pb.ValidateResponse = await self.sessions.Validate(pb.ValidateRequest(token=token, realm=realm, **more))
        return answer


def over_the_wire(
    test: Callable[[Running], Awaitable[None]], *, guesses: GuessLimits | None = None, quotas: Limits | None = None
) -> None:
    """Runs a test over a fresh store and the machine's clock."""

    async def main(keyring: Path) -> None:
        clock = SystemClock()
        async with opened("embedded") as store:
            s = await service(store, clock=clock)
            keyrings.save(keyring, s.tools.keyring)
            server = _server(s, keyring, guesses or GuessLimits(), quotas or Limits())
            await Notes(store).remember(s.tools.keyring)
            async with server, grpc.aio.insecure_channel(server.addresses[0]) as channel:
                await test(Running(s, channel, keyring))

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(main(Path(folder) / "keyring.json"))


def _server(s: Service, keyring: Path, guesses: GuessLimits, quotas: Limits) -> Server:
    clock = s.tools.clock.clock
    server = Server(ServerOptions(service="session", drain_wait_s=0), Telemetry(TelemetryOptions(), "session"))
    pages = PageTokens([bytes(32)], clock)
    sessions = SessionsServicer(
        s.tools,
        pages,
        # In a minute that does not end.
        Guesses(guesses, lambda: 1000.0, bytes),
        Quotas(quotas, lambda: 1000.0, bytes),
        failure_floor_s=0.0,
        gone_after_us=86_400_000_000,
        warm_sessions=1000,
    )
    rekeying = Rekeying(s.tools, File(keyring), Notes(s.tools.store))
    server.add_service(pb.DESCRIPTOR.services_by_name["Sessions"], sessions)
    admin = SessionAdminServicer(s.tools, pages, rekeying)
    server.add_service(admin_pb.DESCRIPTOR.services_by_name["SessionAdmin"], admin)
    return server


async def failure(call: Awaitable[Any]) -> tuple[grpc.StatusCode, str, str, bytes]:
    """Code, message, reason and details of a call that fails, as they came."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    trailers: Any = caught.value.trailing_metadata()
    raw: bytes = dict(trailers)["grpc-status-details-bin"]
    status, info = status_pb2.Status.FromString(raw), error_details_pb2.ErrorInfo()
    status.details[0].Unpack(info)
    return caught.value.code(), caught.value.details() or "", info.reason, raw
