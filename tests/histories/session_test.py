"""Logins, rotations, revocations and checks of the same subjects, killed with -9 and stopped at random: what the
session server tells has one order. With a fault in what it promises it has none, and the judge says so.
"""

import asyncio
import os
import random

import pytest

from tests.histories.broken_session import FAULTS
from tests.histories.judging import must_be_found_out, must_be_linearisable
from tests.histories.server import Server
from tests.histories.session_clients import SETTING
from tests.histories.session_storm import calm, storm

SEED = int(os.environ.get("WELLSPRING_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 30)
ROUNDS = int(os.environ.get("WELLSPRING_ROUNDS", "1"))


def server(path, *start):
    backend = f"backend.embedded.path={path / 'data'}"
    settings = [backend, f"keyring_file={path / 'keyring.json'}", "create_keyring=true", SETTING]
    return Server(settings, start or ["services.session.main"])


@pytest.mark.parametrize("number", range(ROUNDS))
def test_ses_10_logins_and_revocations_have_one_order_through_kills_and_stops(tmp_path, number):
    seed = SEED + number
    print(f"to have the same troubles again: --test_env=WELLSPRING_SEED={seed} --test_env=WELLSPRING_ROUNDS=1")
    with server(tmp_path) as one:
        history = asyncio.run(storm([one], random.Random(seed)))
    print(dict(history.counts))
    history.write(tmp_path / "history.jsonl")
    print(must_be_linearisable(tmp_path / "history.jsonl"))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_server_that_breaks_its_promise_is_found_out(tmp_path, fault):
    print(f"seed {SEED}")

    def play(path, number):
        with server(path, "tests.histories.broken_session", fault) as one:
            return asyncio.run(calm([one], random.Random(SEED + number), held=400, refused=100))

    print(must_be_found_out(tmp_path, play))
