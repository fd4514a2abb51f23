"""A page that was rendered elsewhere: read from the store, purged with its own version; not stored, not called for."""

import asyncio

from services.propagation.executor.hashing import GONE, output_hash, taken_hash
from services.propagation.executor.pages import Item, items_of
from services.propagation.executor.ports import Stored
from services.propagation.executor.runtimes import ViewRuntime, make_publisher, make_renderer
from services.propagation.executor.slices import run_slice
from services.propagation.executor.sources import Sources
from services.propagation.targets.targets import Targets
from wellspring.propagation.v1 import work_pb2
from wellspring_client import packed
from wellspring_client.errors import Unavailable

NONE = bytes(16)
VIEW = work_pb2.View(
    name="html",
    home="east",
    resource_prefixes=["wiki/page/"],
    render=work_pb2.Render(take=work_pb2.Render.Take()),
    store=work_pb2.Store(namespace="html", record="{name}", item_key=b"k"),
    purge=work_pb2.Purge(urls=["/wiki/{path}"], tags=["page-{name}"]),
    calls=[work_pb2.Call(url="http://127.0.0.1:9/")],
)


class World:
    """The store and the caches of this data centre."""

    def __init__(self):
        self.lies = {}
        self.purges = []
        self.error = None

    async def stored(self, namespace, item_key, records):
        assert (namespace, item_key) == ("html", b"k")
        if self.error:
            raise self.error
        return [self.lies.get(record) for record in records]

    async def purge(self, purges):
        self.purges += purges
        return {}


def run(world, *items):
    """What becomes of a slice. The batch's own version is that of nobody's render."""
    batch = work_pb2.Batch(view="html", rendered_version=bytes([255] * 16))

    async def go():
        targets = Targets()
        runtime = ViewRuntime(VIEW, make_renderer(VIEW, targets), make_publisher(VIEW, targets), 1)
        try:
            return await run_slice(runtime, items, batch, Sources(world, "", "", {}, 0), world, world)
        finally:
            await runtime.close()
            await targets.close()

    return asyncio.run(go())


def item(number, name, accepted=NONE, gone_version=b""):
    """A page to take."""
    return Item(number, f"wiki/page/{name}", accepted, gone_version=gone_version)


def version(number):
    """Of a render."""
    return number.to_bytes(16, "big")


def test_each_page_is_purged_with_the_version_that_it_is_stored_with_and_known_by_it():
    world = World()
    world.lies = {
        b"A": Stored(b"a", "text/html", ("page-A", "theirs"), version(5)),
        b"B": Stored(b"b", "text/html", (), version(6)),
    }
    report = run(world, item(1, "A"), item(2, "B"))
    assert [one[1] for one in report.done] == [
        taken_hash(output_hash(b"a", "text/html", ["page-A", "theirs"]), version(5)),
        taken_hash(output_hash(b"b", "text/html", []), version(6)),
    ]
    assert [one[2] for one in report.done] == [None, None], "what they depend on is known at home"
    by_path = {purge.path: purge.min_version for purge in world.purges if not purge.tags}
    assert by_path == {"/wiki/A": version(5), "/wiki/B": version(6)}
    assert {purge.tags: purge.min_version for purge in world.purges if purge.tags} == {
        ("page-A",): version(5),
        ("page-B",): version(6),
    }


def test_what_comes_twice_has_no_effect():
    world = World()
    world.lies = {b"A": Stored(b"a", "text/html", (), version(5))}
    (first,) = run(world, item(1, "A")).done
    world.purges.clear()
    report = run(world, item(1, "A", first[1]))
    assert (len(report.done), report.changed, world.purges) == (1, 0, [])


def test_a_newer_version_is_purged_though_its_bytes_are_the_same():
    world = World()
    world.lies = {b"A": Stored(b"a", "text/html", (), version(5))}
    (first,) = run(world, item(1, "A")).done
    world.purges.clear()
    world.lies = {b"A": Stored(b"a", "text/html", (), version(7))}
    report = run(world, item(1, "A", first[1]))
    assert (len(report.done), report.changed) == (1, 1)
    assert {purge.min_version for purge in world.purges} == {version(7)}


def test_a_page_that_is_gone_leaves_the_caches_whatever_they_have():
    world = World()
    report = run(world, item(1, "A", output_hash(b"a", "text/html", [])))
    assert [one[1] for one in report.done] == [GONE]
    assert {purge.min_version for purge in world.purges} == {b""}


def test_a_page_that_is_gone_is_purged_with_the_version_of_its_end_and_one_that_is_back_with_its_own():
    world = World()
    world.lies = {b"B": Stored(b"b", "text/html", (), version(9))}
    report = run(world, item(1, "A", gone_version=version(7)), item(2, "B", gone_version=version(8)), item(3, "C"))
    assert [one[1] == GONE for one in report.done] == [True, False, True]
    by_path = {purge.path: purge.min_version for purge in world.purges if not purge.tags}
    assert by_path == {"/wiki/A": version(7), "/wiki/B": version(9), "/wiki/C": b""}


def test_a_page_that_is_older_than_its_end_is_waited_for():
    world = World()
    world.lies = {b"A": Stored(b"a", "text/html", (), version(6))}
    pages = [item(1, "A", gone_version=version(7)), item(2, "A", gone_version=version(6))]
    report = run(world, *pages)
    assert (report.saw_older, [one[0] for one in report.done]) == (pages[:1], pages[1:])
    assert {purge.min_version for purge in world.purges} == {version(6)}


def test_a_batch_says_of_each_page_as_of_which_version_it_is_gone():
    batch = work_pb2.Batch(ids=packed.encode_ids([1, 2]), names=b"A\0B", accepted_hashes=NONE * 2)
    assert [one.gone_version for one in items_of(batch)] == [b"", b""]
    batch.gone_versions = NONE + version(7)
    assert [one.gone_version for one in items_of(batch)] == [b"", version(7)]


def test_a_store_that_is_away_is_tried_again():
    world = World()
    world.error = Unavailable("away", reason="STORE_AWAY")
    report = run(world, item(1, "A"), item(2, "B"))
    assert [(one.reason, one.retryable) for one in report.failed] == [("STORE_AWAY", True)] * 2
    assert world.purges == []
