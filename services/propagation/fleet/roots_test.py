"""A root as all shards have it, each of which answers for a moment of its own."""

import asyncio

import pytest

from services.propagation.domain.errors import ChangeNotFound
from services.propagation.fleet.propagation import FleetPropagation
from wellspring.propagation.v1 import propagation_pb2 as pb

ACTIVE, DONE = pb.Root.STATE_ACTIVE, pb.Root.STATE_DONE


def root(state, total, ended_s=0):
    found = pb.Root(
        change=pb.Change(id="edit", resource="t"), state=state, progress=pb.Progress(total=total, done=total)
    )
    if ended_s:
        found.finish_time.FromSeconds(ended_s)
    return found


class Scripted:
    """Two shards that answer so, one round after the other."""

    count, first_sequence = 2, 0

    def __init__(self, *rounds):
        self.rounds = [dict(enumerate(answers)) for answers in rounds]

    async def ask_all(self, service, method, request, call):
        assert (service, method) == ("Propagation", "GetChange")
        return self.rounds.pop(0)


def told(*rounds):
    shards = Scripted(*rounds)
    answer = asyncio.run(FleetPropagation(shards).GetChange(pb.GetChangeRequest(id="edit"), None))
    assert not shards.rounds, "all were asked so often"
    return answer


@pytest.mark.parametrize(
    "rounds",
    [
        # The second one took up what the first one told between its own answer and the first one's.
        [(root(DONE, 1, 5), root(DONE, 0, 1)), (root(DONE, 1, 5), root(ACTIVE, 1))],
        # It had ended that again, when it was asked the next time; and then the first one goes on.
        [
            (root(DONE, 1, 5), root(DONE, 0, 1)),
            (root(DONE, 1, 5), root(DONE, 1, 6)),
            (root(ACTIVE, 2), root(DONE, 1, 6)),
        ],
        # It did not know of it before.
        [
            (root(DONE, 1, 5), ChangeNotFound("no")),
            (root(DONE, 1, 5), root(DONE, 1, 6)),
            (root(ACTIVE, 2), root(DONE, 1, 6)),
        ],
        [(root(DONE, 1, 5), root(ACTIVE, 1))],
    ],
)
def test_a_root_that_is_taken_up_again_between_two_answers_has_not_ended(rounds):
    assert told(*rounds).state == ACTIVE


def test_a_root_has_ended_when_all_shards_say_the_same_twice():
    for second in (root(DONE, 1, 6), ChangeNotFound("no")):
        answer = told((root(DONE, 1, 5), second), (root(DONE, 1, 5), second))
        assert answer.state == DONE
