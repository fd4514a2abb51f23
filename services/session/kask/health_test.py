"""What operators see: health that a write says, metrics under Kask's names, errors that tell nothing."""

import asyncio
import json

from libs.clock.virtual import VirtualClock
from services.session.conformance.harness import opened, service
from services.session.domain.policy import Kind, Policy
from services.session.kask.health import FRESH_S, Health
from services.session.kask.rig import problem, served


def test_SES_29_health_is_what_a_write_says():
    async def test(call):
        status, text, _ = await call("GET", "/healthz")
        assert status == 200 and set(json.loads(text).values()) == {"ok"}

        async def broken(values):
            raise OSError("disk canary")

        call.store.note = broken
        while status == 200:
            status, text, _ = await call("GET", "/healthz")
        assert status == 503 and json.loads(text)["store"] == "unavailable" and b"canary" not in text
        del call.store.note
        while status == 503:
            status, _, _ = await call("GET", "/healthz")
        await call.s.tools.realms.delete("wiki", "")
        status, text, _ = await call("GET", "/healthz")
        assert status == 503 and json.loads(text)["realm"] == "missing"
        problem(await call.key("GET", "k"), 403)

    served(test)


def test_SES_29_health_looks_once_in_a_second_whoever_asks():
    clock = VirtualClock()

    async def main():
        async with opened("memory") as store:
            s = await service(store, clock=clock)
            await s.tools.realms.create("wiki", Policy(kind=Kind.OPAQUE))
            looked = 0

            async def note(values):
                nonlocal looked
                looked += 1

            store.note = note
            health = Health(s.tools, "wiki", lambda: False)
            for seconds in range(1, 4):
                reports = await asyncio.gather(*(health.report() for _ in range(50)))
                assert {tuple(report.values()) for report in reports} == {("ok",) * 4} and looked == seconds
                await clock.advance(FRESH_S)

    clock.run(main(), patience_s=0.005)


def test_a_server_that_stops_says_so():
    async def test(call):
        status, text, _ = await call("GET", "/healthz")
        assert status == 503 and json.loads(text)["server"] == "stopping"

    served(test, health=lambda tools: Health(tools, "wiki", lambda: True))


def test_an_error_that_nobody_expected_tells_nothing(caplog):
    async def test(call):
        async def broken(realm, names):
            raise ValueError("canary of a driver")

        call.store.opaque.read = broken
        body = problem(await call.key("GET", "k"), 500)
        assert "canary" not in str(body) and "canary" not in caplog.text
        # The failure is found in the log by its name.
        assert body["instance"] in str([vars(record) for record in caplog.records])

    served(test)


def test_metrics_have_kasks_names():
    async def test(call):
        await call.key("POST", "k", b"v")
        await call.key("GET", "canary")
        status, text, headers = await call("GET", "/metrics")
        assert status == 200 and headers["Content-Type"].startswith("text/plain")
        assert b'http_requests_total{code="201",method="POST"} 1.0' in text
        assert b'http_request_duration_seconds_count{code="404",method="GET"} 1.0' in text
        assert b"canary" not in text

    served(test)
