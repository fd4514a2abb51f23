"""Metrics of calls, as Prometheus reads them, over the endpoint."""

import asyncio

import pytest
from prometheus_client.parser import text_string_to_metric_families

from libs.errors.errors import Code
from libs.telemetry.metrics_http import split_loopback
from libs.telemetry.options import TelemetryOptions
from libs.telemetry.rpc_metrics import BOUNDS_S
from libs.telemetry.telemetry import Telemetry

METHOD = "a.B/C"


async def ask(address: str, request: bytes) -> bytes:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    writer.write(request)
    answer = await reader.read()
    writer.close()
    return answer


def test_calls_are_counted_and_timed() -> None:
    async def main() -> None:
        telemetry = Telemetry(TelemetryOptions(metrics_listen="127.0.0.1:0"), "test")
        numbers = telemetry.rpc.of(METHOD)
        assert telemetry.rpc.of(METHOD) is numbers
        for seconds in (0.0001, 0.0005, 0.0006, 31.0):
            numbers.done(Code.OK, seconds)
        numbers.done(Code.NOT_FOUND, 0.2)
        numbers.in_flight = 3
        async with telemetry:
            assert telemetry.metrics_address is not None
            answer = await ask(telemetry.metrics_address, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK")
        samples = {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(body.decode())
            for sample in family.samples
        }
        method = ("method", METHOD)
        assert samples["wellspring_rpc_calls_total", ("code", "OK"), method] == 4
        assert samples["wellspring_rpc_calls_total", ("code", "NOT_FOUND"), method] == 1
        assert samples["wellspring_rpc_in_flight", method] == 3
        assert samples["wellspring_rpc_seconds_bucket", ("le", "0.0005"), method] == 2
        assert samples["wellspring_rpc_seconds_bucket", ("le", "0.001"), method] == 3
        assert samples["wellspring_rpc_seconds_bucket", ("le", "30.0"), method] == 4
        assert samples["wellspring_rpc_seconds_bucket", ("le", "+Inf"), method] == 5
        assert samples["wellspring_rpc_seconds_count", method] == 5
        assert abs(samples["wellspring_rpc_seconds_sum", method] - 31.2012) < 1e-9
        assert any(name[0] == "process_resident_memory_bytes" for name in samples)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"404"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", b"405"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"HEAD /metrics?x=1 HTTP/1.1\r\n\r\n", b"200"),
        (b"GET /" + b"x" * 10_000 + b" HTTP/1.1\r\n\r\n", b""),
        (b"", b""),
    ],
)
def test_odd_requests_get_short_answers(request_line: bytes, status: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("libs.telemetry.metrics_http._REQUEST_TIMEOUT_S", 0.3)

    async def main() -> None:
        async with Telemetry(TelemetryOptions(metrics_listen="[::1]:0"), "test") as telemetry:
            assert telemetry.metrics_address is not None
            answer = await ask(telemetry.metrics_address, request_line)
            assert answer[9:12] == status
            assert len(answer) < 1000
            good = await ask(telemetry.metrics_address, b"GET /metrics HTTP/1.1\r\n\r\n")
            assert good.startswith(b"HTTP/1.1 200")

    asyncio.run(main())


@pytest.mark.parametrize("listen", ["0.0.0.0:1", "example.org:1", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000", ":1"])
def test_metrics_are_for_this_machine_alone(listen: str) -> None:
    with pytest.raises(ValueError, match="telemetry.metrics_listen"):
        split_loopback(listen)


def test_worker_processes_have_ports_of_their_own() -> None:
    assert split_loopback("localhost:9000") == ("127.0.0.1", 9000)
    telemetry = Telemetry(TelemetryOptions(metrics_listen="127.0.0.1:9000"), "test", worker=3)
    assert telemetry.metrics_address == "[127.0.0.1]:9003"
    assert tuple(sorted(BOUNDS_S)) == BOUNDS_S
