"""Turns of the sweep through kills, absences and damage: each goes on where it was, and ends."""

import asyncio
import json

import pytest

from services.propagation.auditor.state import CURSOR, REPORT, StateDirectory, StateError
from services.propagation.auditor.swept import found, swept
from wellspring.propagation.v1 import work_pb2
from wellspring_client.errors import FailedPrecondition, Unavailable


class Killed(BaseException):
    """kill -9, as far as one process can play it."""


@pytest.mark.parametrize("at", [1, 2, 12, 20, 50])
def test_a_kill_in_the_middle_costs_one_part(tmp_path, at):
    """Killed after part `at`; the next process goes on there, and the turn ends with everything equal."""

    async def test(world):
        site = world.site
        for n in range(0, 250, 7):
            del site.pages.items[site.place(f"P{n:03}")]
        seen = []

        def tell(turn):
            seen.append(turn)
            if len(seen) == at:
                raise Killed

        world.start(tell)
        read = site.pages.fetched
        killed = False
        try:
            await world.turn()
        except Killed:
            killed = True
        first = site.pages.fetched - read
        if at <= 12:
            assert killed and 20 * at <= first <= 20 * at + 36
        world.start()
        turn = await world.turn()
        assert turn.number == (1 if killed else 2) and turn.resumed == (1 if killed else 0)
        if killed:
            assert turn.tally.counts["pages"] == 250 and turn.tally.counts["lost"] == 36
        assert world.equal() and site.renders == 36
        assert found(await world.turn()) == {}

    swept(tmp_path, test)


def test_a_turn_waits_for_engine_and_store_and_goes_on(tmp_path):
    async def test(world):
        site = world.site
        for n in range(0, 250, 10):
            del site.pages.items[site.place(f"P{n:03}")]
        task = asyncio.create_task(world.sweeper.run())
        for away in (site.engine, site.pages, site.engine, site.pages):
            await world.clock.sleep(5)
            away.away = True
            await world.clock.sleep(20)
            assert not task.done()
            away.away = False
            await world.clock.sleep(40)
            site.work()
        while world.sweeper.last is None:
            await world.clock.sleep(10)
            site.work()
        turn = world.sweeper.last
        assert turn.number == 1 and turn.tally.counts["pages"] == 250 and turn.tally.counts["lost"] == 25
        assert site.renders == 25 and world.equal()
        # The next turn comes after the pause.
        ended_s = world.clock.monotonic()
        while world.sweeper.last is turn:
            await world.clock.sleep(10)
        assert found(world.sweeper.last) == {} and world.clock.monotonic() - ended_s >= 50
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    swept(tmp_path, test)


def test_one_repair_at_a_time_and_what_waits_too_long_is_left_for_the_next_turn(tmp_path):
    async def test(world):
        site = world.site
        for n in range(250):
            del site.pages.items[site.place(f"P{n:03}")]
        site.engine.stuck = True
        turn = await world.turn()
        assert len(site.engine.roots) == 1
        counts = turn.tally.counts
        assert counts["lost"] == 250 and counts["repaired"] == 20 and counts["not_repaired"] == 230
        site.engine.stuck = False
        assert found(await world.turn()) == {"lost": 230} and world.equal()
        assert site.renders == 250

    swept(tmp_path, test)


def test_a_list_that_is_forgotten_is_begun_again(tmp_path):
    async def test(world):
        world.site.engine.bad_token = "100"
        turn = await world.turn()
        assert turn.tally.counts["begun_again"] == 1 and turn.tally.counts["equal"] == 350
        assert set(turn.done) == {"outputs:html", "orphans:html"}

    swept(tmp_path, test)


def test_a_view_that_cannot_be_swept_is_told_and_the_others_are_swept(tmp_path):
    async def test(world):
        view = work_pb2.View(name="absent", resource_prefixes=["a/"])
        view.store.namespace = "absent"
        gone = world.site.engine.outputs

        async def outputs(name, token, size):
            if name == "absent":
                raise FailedPrecondition("the view is being given up")
            return await gone(name, token, size)

        world.site.engine.outputs = outputs
        world.site.engine.views_.append(view)
        turn = await world.turn()
        assert turn.problems == [{"where": "outputs:absent", "what": "the view is being given up"}]
        assert turn.tally.counts["equal"] == 250

    swept(tmp_path, test)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', '{"format": 1, "turn": "x"}', "\0\0\0"])
def test_a_damaged_cursor_begins_a_turn_anew(tmp_path, text):
    async def test(world):
        (world.path / CURSOR).write_text(text)
        (world.path / REPORT).write_text(text)
        turn = await world.turn()
        assert turn.number == 1 and turn.tally.counts["pages"] == 20
        assert json.loads((world.path / REPORT).read_text())["turn"] == 1

    swept(tmp_path, test, count=20)


def test_a_cursor_cannot_be_torn(tmp_path):
    """What a kill between writing and replacing leaves is not what is read."""

    async def test(world):
        await world.turn()
        (world.path / "cursor.new").write_text('{"format": 1, "tu')
        world.start()
        assert (await world.turn()).number == 2

    swept(tmp_path, test, count=20)


def test_two_auditors_do_not_share_a_directory(tmp_path):
    first = StateDirectory(tmp_path / "a").open()
    with pytest.raises(StateError, match="another auditor"):
        StateDirectory(tmp_path / "a").open()
    first.close()
    StateDirectory(tmp_path / "a").open().close()
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="cannot be used"):
        StateDirectory(tmp_path / "file").open()


def test_an_engine_away_ends_a_single_turn_with_its_error(tmp_path):
    async def test(world):
        world.site.engine.away = True
        with pytest.raises(Unavailable):
            await world.sweeper.one_turn()

    swept(tmp_path, test)
