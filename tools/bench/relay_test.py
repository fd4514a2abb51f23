"""The bench measures what it says."""

import json

import pytest

from tools.bench import relay


def test_a_small_run_has_every_figure(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["relay", "--purges", "20000", "--json"])
    assert relay.main() == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["raw_ratio"] == pytest.approx(told["relay_per_s"] / told["raw_per_s"], rel=0.01, abs=0.002)
    assert told["relay_cpu_s_per_10k"] > 0 and told["raw_cpu_s_per_10k"] > 0


def test_nonsense_is_refused(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["relay", "--purges", "0"])
    with pytest.raises(SystemExit):
        relay.main()
    assert "5,000 or more" in capsys.readouterr().err
