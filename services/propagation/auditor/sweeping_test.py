"""The sweep against a store, a graph and caches that lost or kept what they should not; and through kills."""

import asyncio
import json
from random import Random

import pytest

from libs.clock.virtual import VirtualClock
from services.propagation.auditor.auditor import Auditor, Outside, SweepOptions
from services.propagation.auditor.fakes import HTML, FakeSite, version
from services.propagation.auditor.hashes import possible_hashes
from services.propagation.auditor.ports import NEVER, Output
from services.propagation.auditor.sampling import SamplingOptions
from services.propagation.auditor.state import CURSOR, REPORT, StateDirectory, StateError
from services.propagation.executor.hashing import output_hash
from wellspring.propagation.v1 import work_pb2
from wellspring_client.errors import Unavailable


class Killed(BaseException):
    """kill -9, as far as one process can play it."""


class Swept:
    """A site of `count` pages, and auditors over one state directory; `start` is a new process."""

    def __init__(self, clock, path, count=250, **options):
        self.clock = clock
        self.path = path
        self.site = FakeSite(clock)
        self.options = options
        for n in range(count):
            self.site.edit(f"P{n:03}", f"page {n}".encode())
        self.site.renders = 0
        self.told = []
        self.state = None
        self.start()

    def start(self, tell=None):
        if self.state is not None:
            self.state.close()
        self.state = StateDirectory(self.path).open()
        rng = Random(11)
        self.auditor = Auditor(
            Outside(
                self.site.engine,
                self.site.pages,
                self.site.caches,
                self.clock,
                rng,
                lambda: f"{rng.random()}",
                self.state,
            ),
            SamplingOptions(0.0, (10.0,), 0.0),
            SweepOptions(
                self.options.get("pages_per_s", 10.0), self.options.get("pause_s", 60.0), self.options.get("share", 1.0)
            ),
            repair=self.options.get("repair", True),
            tell=tell or self.told.append,
        )
        self.sweeper = self.auditor.sweeper

    async def turn(self):
        """One turn, with executors at work beside it; the pages that it repaired, and all that was found."""

        async def work():
            while True:
                await self.clock.sleep(0.5)
                self.site.work()

        executors = asyncio.create_task(work())
        try:
            turn = await self.sweeper.one_turn()
        finally:
            executors.cancel()
            await asyncio.gather(executors, return_exceptions=True)
        self.site.work()
        return turn

    def equal(self):
        """Whether store and caches are what the engine believes."""
        for (_, resource), output in self.site.engine.known.items():
            name = resource.removeprefix("w/page/")
            item = self.site.pages.items.get(self.site.place(name))
            body = self.site.sources.get(resource)
            assert not output.state and (item is None) == (body is None), resource
            if item is not None:
                assert item[1] == body and output_hash(body, "text/html", ("renderers-own",)) == output.hash
                for cache in self.site.caches:
                    assert cache.serve(f"/wiki/{name}") == item[0], (cache.name, name)
        return True


def swept(tmp_path, test, **options):
    clock = VirtualClock()

    async def main():
        world = Swept(clock, tmp_path / "auditor", **options)
        try:
            await test(world)
        finally:
            world.state.close()

    clock.run(main())


PLAIN = (1_700_000_000_000_000).to_bytes(8, "big") + bytes(8)
"""The version of a plain put: a time."""


def found(turn):
    return {kind: count for kind, count in turn.findings.items() if count}


def test_a_clean_turn_repairs_nothing_and_takes_its_time(tmp_path):
    async def test(world):
        began_s = world.clock.monotonic()
        turn = await world.turn()
        assert found(turn) == {} and turn.tally.counts["repaired"] == 0
        assert turn.tally.counts["equal"] == 250 == turn.tally.counts["pages"]
        assert turn.tally.counts["items_scanned"] == 250 == turn.tally.counts["looked_at_in_caches"]
        assert world.site.renders == 0 and not world.site.engine.roots and not world.site.outer.purges
        # 10 a second, outputs and then items; the first of each part goes at once.
        assert world.clock.monotonic() - began_s >= 40

    swept(tmp_path, test)


def test_lost_older_damaged_and_foreign_pages_are_rendered_anew_and_no_others(tmp_path):
    async def test(world):
        site = world.site
        items = site.pages.items
        backup = dict(items)
        for n in range(20, 40):
            site.edit(f"P{n:03}", b"newer")
        for n in range(20, 40):
            items[site.place(f"P{n:03}")] = backup[site.place(f"P{n:03}")]  # restored from a backup
        for n in range(10):
            del items[site.place(f"P{n:03}")]  # deleted behind the engine's back
        at, _, kind, tags = items[site.place("P050")]
        items[site.place("P050")] = (at, b"damaged", kind, tags)
        items[site.place("P051")] = (version(10**6), b"never accepted", kind, tags)
        site.last = 10**6
        site.edit("P052", None)
        items[site.place("P052")] = (at, b"left", kind, tags)
        site.renders = 0
        items[site.place("P053")] = (PLAIN, b"vandalised", kind, tags)
        for cache in site.caches:
            cache.kept["/wiki/P053"] = PLAIN
        turn = await world.turn()
        assert found(turn) == {"lost": 10, "older": 20, "damaged": 1, "ahead": 1, "left": 1, "overwritten": 1}
        assert turn.tally.counts["repaired"] == 34 == site.renders
        assert site.engine.reasons == ["audit: lost", "audit: older", "audit: ahead, damaged, left, overwritten"]
        assert world.equal()
        again = await world.turn()
        assert found(again) == {} and site.renders == 34 and len(site.engine.roots) == 3

    swept(tmp_path, test)


def test_a_render_with_the_same_bytes_is_no_difference(tmp_path):
    """The engine's version rises with it, the store's does not."""

    async def test(world):
        output = world.site.engine.known["html", "w/page/P001"]
        world.site.engine.known["html", "w/page/P001"] = Output(output.resource, output.hash, version(10**6))
        assert found(await world.turn()) == {}

    swept(tmp_path, test)


def test_a_store_above_the_engine_is_told_and_not_rendered_in_vain(tmp_path):
    """As after an engine was restored from an older copy: nothing that it renders would be stored."""

    async def test(world):
        site = world.site
        later = (7).to_bytes(8, "big") + bytes(8)
        site.pages.items[site.place("P001")] = (later, b"of a later epoch", "text/html", ())
        turn = await world.turn()
        assert found(turn) == {"ahead": 1} and turn.tally.counts["not_repaired"] == 1
        assert not site.engine.roots and site.place("P001") in site.pages.items
        assert any(one["kind"] == "above_the_engine" for one in turn.tally.examples)

    swept(tmp_path, test)


def test_an_orphan_that_was_put_by_hand_is_right_after_two_turns(tmp_path):
    async def test(world):
        site = world.site
        site.pages.items["html", b"w/page/Hand", b""] = (PLAIN, b"by hand", "text/html", ())
        assert found(await world.turn()) == {"orphan": 1}
        assert found(await world.turn()) == {"left": 1}
        assert found(await world.turn()) == {} and world.equal()

    swept(tmp_path, test)


@pytest.mark.parametrize("state", [1, 2, 4, 3])
def test_what_is_pending_or_given_up_is_left_alone(tmp_path, state):
    async def test(world):
        site = world.site
        output = site.engine.known["html", "w/page/P001"]
        site.engine.known["html", "w/page/P001"] = Output(output.resource, output.hash, output.version, state)
        site.engine.known["html", "w/page/P002"] = Output("w/page/P002", NEVER, bytes(16))
        del site.pages.items[site.place("P001")]
        turn = await world.turn()
        assert found(turn) == {} and not site.engine.roots
        counts = turn.tally.counts
        assert counts["pending"] + counts["dead_letters"] + counts["retrying"] == 1 == counts["never_rendered"]

    swept(tmp_path, test)


def test_a_page_that_changes_between_the_looks_is_not_a_difference(tmp_path):
    async def test(world):
        site = world.site

        # The list was read; before the store is, the page is made anew. Each time.
        site.engine.after_listing = lambda: site.edit("P001", f"{site.last}".encode())
        turn = await world.turn()
        assert found(turn) == {} and not site.engine.roots
        assert turn.tally.counts["moved"] == 1

    swept(tmp_path, test)


def test_caches_that_kept_an_older_page_are_purged_inner_before_outer(tmp_path):
    async def test(world):
        site = world.site
        for n in range(100, 110):
            for cache in site.caches:
                cache.kept[f"/wiki/P{n}"] = version(0)
        site.edit("P200", None)
        site.outer.kept["/wiki/P200"] = version(0)
        turn = await world.turn()
        assert turn.tally.counts["cache_stale"] == 21 == turn.tally.counts["cache_repaired"]
        assert not site.engine.roots and world.equal()
        assert (await world.turn()).tally.counts["cache_stale"] == 0

    swept(tmp_path, test)


def test_a_share_of_the_caches_is_looked_at(tmp_path):
    async def test(world):
        turn = await world.turn()
        assert 20 < turn.tally.counts["looked_at_in_caches"] < 105

    swept(tmp_path, test, share=0.25)


def test_orphans_go_to_the_renderer_strangers_are_only_told(tmp_path):
    async def test(world):
        site = world.site
        item = (version(1), b"orphan", "text/html", ())
        site.pages.items["html", b"w/page/Gone", b""] = item
        site.sources["w/page/Imported"] = b"from its source"
        site.pages.items["html", b"w/page/Imported", b""] = item
        site.pages.items["html", b"robots.txt", b""] = item
        site.pages.items["html", b"\xff\xfe", b""] = item
        turn = await world.turn()
        assert found(turn) == {"orphan": 2} and turn.tally.counts["strangers"] == 2
        assert ("html", b"w/page/Gone", b"") not in site.pages.items  # the renderer knew of none
        assert site.pages.items["html", b"w/page/Imported", b""][1] == b"from its source"
        assert ("html", b"robots.txt", b"") in site.pages.items
        assert found(await world.turn()) == {} and world.equal()

    swept(tmp_path, test)


def test_an_orphan_that_could_be_several_outputs_is_left_and_told(tmp_path):
    async def test(world):
        view = work_pb2.View(name="flat", resource_prefixes=["a/", "b/"])
        view.store.namespace, view.store.record = "flat", "{name}.html"
        world.site.engine.views_.append(view)
        world.site.pages.items["flat", b"X.html", b""] = (version(1), b"?", "text/html", ())
        world.site.pages.items["flat", b"X.txt", b""] = (version(1), b"?", "text/html", ())
        turn = await world.turn()
        assert found(turn) == {"orphan": 1} and turn.tally.counts["strangers"] == 1
        assert turn.tally.counts["not_repaired"] == 1 and not world.site.engine.roots

    swept(tmp_path, test, count=3)


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


def test_repair_off_tells_and_changes_nothing(tmp_path):
    async def test(world):
        site = world.site
        del site.pages.items[site.place("P001")]
        site.outer.kept["/wiki/P002"] = version(0)
        turn = await world.turn()
        assert found(turn) == {"lost": 1} and turn.tally.counts["not_repaired"] == 1
        assert turn.tally.counts["cache_stale"] == 1 and turn.tally.counts["cache_repaired"] == 0
        assert not site.engine.roots and not site.outer.purges

    swept(tmp_path, test, repair=False)


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
            from wellspring_client.errors import FailedPrecondition

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


@pytest.mark.parametrize(
    ("own", "view"),
    [
        ((), ()),
        (("a", "b"), ()),
        ((), ("v",)),
        (("a",), ("v", "w")),
        (("a", "v"), ("v", "w")),
        (("v",), ("v",)),
        (("w", "v"), ("v", "w")),
        (("w", "a", "v", "a"), ("v", "w")),
    ],
)
def test_the_hash_of_a_render_is_found_again_from_what_is_stored(own, view):
    stored = tuple(dict.fromkeys((*view, *own)))
    hashes = possible_hashes(b"body", "text/html", stored, view)
    assert output_hash(b"body", "text/html", own) in hashes and len(hashes) <= 4
    assert output_hash(b"other", "text/html", own) not in hashes
    assert output_hash(b"body", "text/html", (*own, "more")) not in hashes


def test_records_are_read_back_as_resources():
    from services.propagation.auditor.addressing import ViewAddresses

    addresses = ViewAddresses(HTML)
    assert addresses.resources_of(b"w/page/A b") == ["w/page/A b"]
    assert addresses.resources_of(b"w/other/A") == [] == addresses.resources_of(b"\xff")
    view = work_pb2.View(name="v", resource_prefixes=["a/", "a/b/"])
    view.store.namespace, view.store.record = "n", "pre-{name}-{name}"
    addresses = ViewAddresses(view)
    record = addresses.of("a/b/x").wanted.record
    assert addresses.resources_of(record) == ["a/b/x"]
    assert addresses.resources_of(b"pre-x-y") == []
