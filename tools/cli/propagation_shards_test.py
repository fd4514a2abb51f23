"""`wellspring propagation shards`: a growth is asked for and looked on to its end."""

import json
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from tools.cli import propagation_shards
from tools.cli.propagation_shards import shards
from tools.cli.target import Target
from wellspring.propagation.v1 import propagation_admin_pb2 as pb
from wellspring_client.errors import Unavailable

TWO = pb.ShardsState(generation=1, shards=2, led=[0, 1])
GROWING = pb.ShardsState(generation=1, shards=2, led=[1], growing_to=4, sealed=[0])
OPENING = pb.ShardsState(generation=2, shards=4, led=[0, 3])
FOUR = pb.ShardsState(generation=2, shards=4, led=[0, 1, 2, 3], former_log_needed_by=[1, 2])


class Admin:
    """Answers `states` one after the other; an error among them is raised."""

    def __init__(self, *states):
        self.states = list(states)
        self.asked = []

    def shards(self):
        state = self.states.pop(0)
        if isinstance(state, Exception):
            raise state
        return state

    def grow_shards(self, wanted, *, validate_only=False):
        self.asked.append((wanted, validate_only))
        return TWO if validate_only else GROWING

    def status(self):
        return pb.GetStatusResponse(resources=5_000)


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setattr(propagation_shards, "_LOOK_S", 0)

    def run(admin, *arguments):
        @contextmanager
        def client(self):
            yield SimpleNamespace(propagation=SimpleNamespace(admin=admin))

        monkeypatch.setattr(Target, "client", client)
        return CliRunner().invoke(shards, arguments, catch_exceptions=False)

    return run


def test_a_growth_is_looked_on_until_all_are_led_over_engines_that_are_away(run):
    away = Unavailable("all turn to the new ones", reason="SHARD_AWAY")
    admin = Admin(GROWING, away, OPENING, OPENING, FOUR)
    done = run(admin, "grow", "--to", "4", "--json")
    assert done.exit_code == 0 and admin.asked == [(4, False)] and not admin.states
    told = [json.loads(line) for line in done.output.splitlines()]
    assert [(one["shards"], one["led"], one["growing_to"]) for one in told] == [
        (2, [1], 4),
        (2, [1], 4),
        (4, [0, 3], 0),
        (4, [0, 1, 2, 3], 0),
    ]


def test_nothing_is_done_by_a_dry_run_and_nobody_waits_who_does_not_want_to(run):
    admin = Admin()
    done = run(admin, "grow", "--to", "4", "--dry-run")
    assert "2 shards would go on as 4, each as 2" in done.output and "5000" in done.output
    assert "growing to 4: 1 of 2 sealed" in run(admin, "grow", "--to", "4", "--no-wait").output
    assert admin.asked == [(4, True), (4, False)]


def test_the_status_says_for_which_shards_the_former_log_must_stay(run):
    assert "4 shards, 4 led; the former log is needed by 1, 2" in run(Admin(FOUR), "status").output
    assert json.loads(run(Admin(FOUR), "status", "--json").output)["former_log_needed_by"] == [1, 2]
