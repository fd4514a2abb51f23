"""The sweep against a store, a graph and caches that lost or kept what they should not."""

import pytest

from services.propagation.auditor.addressing import ViewAddresses
from services.propagation.auditor.fakes import HTML, version
from services.propagation.auditor.hashes import possible_hashes
from services.propagation.auditor.ports import NEVER, Output
from services.propagation.auditor.swept import PLAIN, found, swept
from services.propagation.executor.hashing import output_hash
from wellspring.propagation.v1 import work_pb2


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
    addresses = ViewAddresses(HTML)
    assert addresses.resources_of(b"w/page/A b") == ["w/page/A b"]
    assert addresses.resources_of(b"w/other/A") == [] == addresses.resources_of(b"\xff")
    view = work_pb2.View(name="v", resource_prefixes=["a/", "a/b/"])
    view.store.namespace, view.store.record = "n", "pre-{name}-{name}"
    addresses = ViewAddresses(view)
    record = addresses.of("a/b/x").wanted.record
    assert addresses.resources_of(record) == ["a/b/x"]
    assert addresses.resources_of(b"pre-x-y") == []
