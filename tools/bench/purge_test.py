"""The bench measures what it says, and fails when a purge was not acknowledged."""

import asyncio
import json

import pytest

from tools.bench import purge


def test_a_small_run_has_every_figure(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["purge", "--purges", "2000", "--rounds", "1", "--connections", "2", "--json"])
    assert purge.main() == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    for name in ("stub", "varnish", "varnish_tags"):
        ratio = told[f"{name}_per_s"] / told[f"raw_{name}_per_s"]
        assert told[f"{name}_ratio"] == pytest.approx(ratio, rel=0.01, abs=0.002)
        assert told[f"{name}_cpu_s_per_10k"] > 0


@pytest.mark.parametrize("measure", [purge.ours, purge.raw])
def test_a_cache_that_refuses_is_no_measurement(measure):
    async def main():
        async def refuse(reader, writer):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

        server = await asyncio.start_server(refuse, "127.0.0.1", 0)
        with pytest.raises(purge.BenchError, match="10 of 10 purges were not acknowledged"):
            await measure(server.sockets[0].getsockname()[1], [f"/{n}" for n in range(10)], False, 2, 4)
        server.close()

    asyncio.run(main())


def test_nonsense_is_refused(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["purge", "--depth", "0"])
    with pytest.raises(SystemExit):
        purge.main()
    assert "1 or more" in capsys.readouterr().err
