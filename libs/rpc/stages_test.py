"""The stages before the work stand in their written order, and each refuses before the next is asked."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import grpc
import pytest

from libs.auth.options import AuthOptions
from libs.auth.rules import AllowList
from libs.errors.errors import Code, InvalidArgument
from libs.rpc.call import Call
from libs.rpc.errors import DETAILS_KEY
from libs.rpc.gate import Draining, Gate, Shared, Slots
from libs.rpc.options import ServerOptions
from libs.rpc.pipeline import compose
from libs.rpc.policy import Policy
from libs.telemetry.options import TelemetryOptions
from libs.telemetry.telemetry import Telemetry
from wellspring.bench.v1 import echo_pb2 as pb

METHOD = "wellspring.bench.v1.Echo/Say"
CALLER = {
    "transport_security_type": [b"ssl"],
    "x509_pem_cert": [b"pem"],
    "x509_subject_alternative_name": [b"spiffe://test/a"],
}
NOBODY = CALLER | {"x509_subject_alternative_name": []}


class Refused(Exception):
    def __init__(self, code: grpc.StatusCode, trailers: Mapping[str, Any]) -> None:
        super().__init__(code)
        self.code = code
        self.trailers = trailers


class FakeContext:
    def __init__(self, peer: Mapping[str, Sequence[bytes]], remaining_s: float | None) -> None:
        self.peer = peer
        self.remaining_s = remaining_s
        self.asked: list[str] = []

    def auth_context(self) -> Mapping[str, Sequence[bytes]]:
        self.asked.append("identity")
        return self.peer

    def time_remaining(self) -> float | None:
        self.asked.append("deadline")
        return self.remaining_s

    def invocation_metadata(self) -> Sequence[tuple[str, str | bytes]] | None:
        return None

    async def write(self, message: bytes) -> None:
        raise AssertionError("a unary call writes nothing")

    async def abort(self, code: grpc.StatusCode, details: str, trailing_metadata: Any) -> NoReturn:
        raise Refused(code, dict(trailing_metadata))


class Stage:
    """One method whose every stage can be told to refuse."""

    def __init__(self, *, rules: Mapping[str, Sequence[str]], places: int, valid: bool) -> None:
        self.worked = 0
        self.validated = 0
        self.valid = valid
        self.telemetry = Telemetry(TelemetryOptions(), "test")
        shared = Shared(
            ServerOptions(service="test"),
            AllowList(AuthOptions(rules=rules)),
            True,
            self.telemetry,
            Slots(places),
            Slots(places),
            Draining(),
        )
        self.gate = Gate(METHOD, Policy(validator=self.validate), shared, stream=False)
        handler = compose(self.gate, self.work, pb.SayRequest, streams_in=False, streams_out=False)
        self.handle = handler.unary_unary

    def validate(self, request: Any) -> None:
        self.validated += 1
        if not self.valid:
            raise InvalidArgument.field("payload", "is never right here")

    async def work(self, request: Any, call: Call) -> bytes:
        self.worked += 1
        return b""

    def call(
        self, peer: Mapping[str, Sequence[bytes]], remaining_s: float | None, raw: bytes = b""
    ) -> tuple[str, list[str]]:
        context = FakeContext(peer, remaining_s)
        try:
            asyncio.run(self.handle(raw, context))
        except Refused as refused:
            assert DETAILS_KEY in refused.trailers
            return refused.code.name, context.asked
        return "OK", context.asked


ALLOWED = {"spiffe://test/a": [METHOD]}
ELSEWHERE = {"spiffe://test/b": [METHOD]}


@pytest.mark.parametrize(
    ("peer", "rules", "remaining_s", "places", "valid", "expected", "asked"),
    [
        (NOBODY, ELSEWHERE, 0.0, 0, False, "UNAUTHENTICATED", ["identity"]),
        (CALLER, ELSEWHERE, 0.0, 0, False, "PERMISSION_DENIED", ["identity"]),
        (CALLER, ALLOWED, 0.0, 0, False, "DEADLINE_EXCEEDED", ["identity", "deadline"]),
        (CALLER, ALLOWED, 5.0, 0, False, "UNAVAILABLE", ["identity", "deadline"]),
        (CALLER, ALLOWED, 5.0, 1, False, "INVALID_ARGUMENT", ["identity", "deadline"]),
        (CALLER, ALLOWED, 5.0, 1, True, "OK", ["identity", "deadline"]),
        (CALLER, ALLOWED, None, 1, True, "OK", ["identity", "deadline"]),
        (CALLER, ALLOWED, 9e18, 1, True, "OK", ["identity", "deadline"]),
    ],
)
def test_the_first_stage_that_refuses_decides(
    peer: Any, rules: Any, remaining_s: float | None, places: int, valid: bool, expected: str, asked: list[str]
) -> None:
    stage = Stage(rules=rules, places=places, valid=valid)
    assert stage.call(peer, remaining_s) == (expected, asked)
    assert stage.worked == (expected == "OK")
    assert stage.validated == (expected in ("OK", "INVALID_ARGUMENT"))
    assert stage.telemetry.rpc.of(METHOD).codes[Code[expected]] == 1
    assert stage.telemetry.rpc.of(METHOD).in_flight == 0


def test_a_caller_that_may_not_call_learns_nothing_of_its_request() -> None:
    stage = Stage(rules=ELSEWHERE, places=1, valid=True)
    assert stage.call(CALLER, 5.0, raw=b"\xff\xff")[0] == "PERMISSION_DENIED"


def test_a_deadline_in_the_past_is_refused() -> None:
    stage = Stage(rules=ALLOWED, places=1, valid=True)
    assert stage.call(CALLER, -3.0)[0] == "DEADLINE_EXCEEDED"
    assert stage.worked == 0
