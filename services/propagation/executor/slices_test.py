"""A slice's steps, each made to fail in its turn: what is reported, and what was and was not done."""

import asyncio
import contextlib
import gc
import sys
import types

import pytest

from libs.purge.client import PurgeFailed
from libs.render.types import Document, RenderError, RenderResult
from services.propagation.executor.entry_points import EntryPointRenderer
from services.propagation.executor.hashing import output_hash
from services.propagation.executor.pages import Item, RenderFailed
from services.propagation.executor.runtimes import ViewRuntime, make_publisher
from services.propagation.executor.slices import run_slice
from services.propagation.executor.sources import Sources
from services.propagation.targets.targets import Targets
from wellspring.propagation.v1 import work_pb2
from wellspring_client.errors import Unavailable

NONE = bytes(16)
VIEW = work_pb2.View(
    name="html",
    resource_prefixes=["wiki/page/"],
    store=work_pb2.Store(namespace="html", record="{resource}"),
    purge=work_pb2.Purge(urls=["/wiki/{path}"], tags=["page-{name}"]),
    max_dependencies=3,
)
VERSION = (7).to_bytes(16, "big")


class World:
    """Documents, outputs and purges in one place; `events` is the order of what happened."""

    def __init__(self):
        self.documents = {}
        self.stored = {}
        self.events = []
        self.reads = []
        self.store_error = None
        self.unpurged = set()
        self.refuse = {}
        self.pages = {}
        self.lagging = set()
        self.unreadable = []

    def put_source(self, name, version=1):
        self.documents[name.encode()] = Document(b"x", version.to_bytes(16, "big"), "text/x-wiki")

    async def fetch(self, namespace, records, *, strong=False):
        self.reads.append(list(records))
        await asyncio.sleep(0)
        if self.unreadable:
            raise self.unreadable.pop()
        return [None if r in self.lagging and not strong else self.documents.get(r) for r in records]

    async def put(self, namespace, item_key, outputs, version):
        if self.store_error:
            raise self.store_error
        for output in outputs:
            if output.record not in self.refuse:
                self.stored[output.record] = output
                self.events.append(("stored", output.record.decode()))
        return [self.refuse.get(output.record) for output in outputs]

    async def purge(self, purges):
        assert all(p.min_version == VERSION for p in purges)
        self.events += [("purged", " ".join(p.tags) or p.path) for p in purges]
        return {n: PurgeFailed("edge", "answered 500") for n, p in enumerate(purges) if p.path in self.unpurged}

    async def render(self, request):
        page = self.pages.get(request.resource, b"page")
        if isinstance(page, Exception):
            raise page
        if callable(page):
            return await page(request)
        if isinstance(page, bytes):
            return RenderResult(page, "text/html", [("wiki/page/T", "content")], ["t"])
        return page

    async def close(self):
        pass


def slice_of(world, *names, hashes=None, timeout_s=None, minimums=None):
    view = work_pb2.View()
    view.CopyFrom(VIEW)
    if timeout_s:
        view.render.timeout.FromNanoseconds(int(timeout_s * 1e9))
    view.render.max_output_bytes = 1000
    items = [Item(n, f"wiki/page/{name}", (hashes or {}).get(name, NONE)) for n, name in enumerate(names)]
    sources = Sources(world, "src", "wiki/page/", minimums or {}, 1000)
    module = types.ModuleType("slices_test_renderer")
    module.render = world.render
    sys.modules["slices_test_renderer"] = module
    view.render.entry_point.function = "slices_test_renderer:render"

    async def main():
        runtime = ViewRuntime(view, EntryPointRenderer(view), make_publisher(view, Targets()), 4)
        return await run_slice(runtime, items, work_pb2.Batch(rendered_version=VERSION), sources, world, world)

    return asyncio.run(main())


def names(report):
    return sorted(item.resource.rsplit("/", 1)[1] for item, _, _ in report.done)


def test_changed_pages_are_stored_then_purged_then_done():
    world = World()
    report = slice_of(world, "A b", "Ü")
    assert names(report) == ["A b", "Ü"] and report.changed == 2
    assert world.events[2:4] == [("purged", "/wiki/A%20b"), ("purged", "/wiki/%C3%9C")]
    assert world.events[4:] == [("purged", "page-A%20b page-%C3%9C")]
    assert world.events[:2] == [("stored", "wiki/page/A b"), ("stored", "wiki/page/Ü")]
    assert world.stored[b"wiki/page/A b"].tags == ("page-A%20b", "t")


def test_a_page_with_the_accepted_bytes_is_neither_stored_nor_purged():
    world = World()
    same = output_hash(b"page", "text/html", ("t",))
    report = slice_of(world, "A", "B", hashes={"A": same})
    assert names(report) == ["A", "B"] and report.changed == 1
    assert world.events == [("stored", "wiki/page/B"), ("purged", "/wiki/B"), ("purged", "page-B")]


def test_what_is_stored_but_not_purged_is_not_done():
    world = World()
    world.unpurged = {"/wiki/A"}
    report = slice_of(world, "A", "B")
    assert names(report) == ["B"] and report.changed == 1
    assert report.failed[0].item.resource == "wiki/page/A"
    assert report.failed[0].reason == "PURGE_FAILED" and report.failed[0].retryable
    world.unpurged = {"/"}  # tags go together
    assert not slice_of(world, "A", "B").done


def test_what_is_not_stored_is_never_purged():
    world = World()
    world.refuse[b"wiki/page/A"] = "VALUE_TOO_LARGE"
    report = slice_of(world, "A", "B")
    assert names(report) == ["B"] and ("purged", "/wiki/A") not in world.events
    world = World()
    world.store_error = Unavailable("storage is away")
    report = slice_of(world, "A")
    assert not report.done and not world.events and report.failed[0].retryable


def test_a_page_that_is_gone_is_removed_and_purged():
    world = World()
    world.pages["wiki/page/A"] = RenderResult(b"no such page", "text/html", [], [], missing=True)
    report = slice_of(world, "A")
    assert names(report) == ["A"] and world.stored[b"wiki/page/A"].body is None
    assert world.events[-2:] == [("purged", "/wiki/A"), ("purged", "page-A")]


async def never(request):
    await asyncio.sleep(60)


async def garbage(request):
    return "html"


@pytest.mark.parametrize(
    ("page", "reason", "retryable"),
    [
        (RenderFailed("RENDERER_HTTP_500", "x"), "RENDERER_HTTP_500", True),
        (RenderError("bad input"), "RENDER_ERROR", False),
        (ZeroDivisionError("secret text"), "RENDERER_RAISED", True),
        (never, "RENDER_TIMEOUT", True),
        (garbage, "RENDERER_GARBAGE", False),
        (b"", "OUTPUT_EMPTY", True),
        (b"x" * 1001, "OUTPUT_TOO_LARGE", False),
        (RenderResult(b"x", "t", [(f"r{n}", "content") for n in range(4)]), "TOO_MANY_DEPENDENCIES", False),
        (RenderResult(b"x", "t", [("view/html/wiki/page/bad", "content")]), "SELF_DEPENDENCY", False),
        (RenderResult(b"x", "t", [("a\0b", "content")]), "DEPENDENCY_INVALID", False),
        (RenderResult(b"x", "t", [("", "content")]), "DEPENDENCY_INVALID", False),
        (RenderResult(b"x", "t", [("ä" * 513, "content")]), "DEPENDENCY_INVALID", False),
        (RenderResult(b"x", "t", [("a", "Content!")]), "DEPENDENCY_INVALID", False),
    ],
)
def test_one_bad_page_is_told_apart_and_the_others_are_done(page, reason, retryable):
    world = World()
    world.pages["wiki/page/bad"] = page
    report = slice_of(world, "A", "bad", "B", timeout_s=1.0 if page is never else 60.0)
    assert names(report) == ["A", "B"]
    (failed,) = report.failed
    assert (failed.reason, failed.retryable) == (reason, retryable)
    assert "secret" not in failed.detail


def test_an_input_older_than_the_change_is_reported_and_nothing_stored():
    world = World()
    world.put_source("T", 4)

    async def page(request):
        await request.fetch(["wiki/page/T"])
        return RenderResult(b"x", "t")

    world.pages["wiki/page/A"] = page
    report = slice_of(world, "A", minimums={"wiki/page/T": (5).to_bytes(16, "big")})
    assert [i.resource for i in report.saw_older] == ["wiki/page/A"] and not world.events and not report.failed
    world.put_source("T", 5)
    assert slice_of(world, "A", minimums={"wiki/page/T": (5).to_bytes(16, "big")}).changed == 1


def test_an_input_that_a_lagging_copy_has_not_yet_is_not_taken_for_deleted():
    world = World()
    world.put_source("T", 5)
    world.lagging = {b"T"}

    async def page(request):
        found = (await request.fetch(["wiki/page/T", "wiki/page/red"]))["wiki/page/T"]
        return RenderResult(b"there" if found is not None else b"gone", "t")

    world.pages["wiki/page/A"] = page
    minimums = {"wiki/page/T": (5).to_bytes(16, "big")}
    assert slice_of(world, "A", minimums=minimums).changed == 1
    assert world.stored[b"wiki/page/A"].body == b"there" and world.reads == [[b"T", b"red"], [b"T"]]
    world.put_source("T", 4)  # another copy has it, and an older one
    assert len(slice_of(world, "A", minimums=minimums).saw_older) == 1
    del world.documents[b"T"]
    assert slice_of(world, "A", minimums=minimums).changed == 1
    assert world.stored[b"wiki/page/A"].body == b"gone"


def test_a_read_that_failed_is_read_again_and_leaves_no_task_behind():
    world = World()
    world.put_source("T")
    world.put_source("U")
    world.unreadable = [Unavailable("away", reason="AWAY")]
    problems = []

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
        sources = Sources(world, "src", "wiki/page/", {}, 1000)
        asked = [sources.fetch(["wiki/page/T", "wiki/page/U"]), sources.fetch(["wiki/page/U"])]
        failed = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(one) for one in failed] == [Unavailable, Unavailable]
        assert len(asyncio.all_tasks()) == 1
        found = await sources.fetch(["wiki/page/T", "wiki/page/U"])
        assert None not in found.values()
        # Who asked is gone before the read fails.
        world.unreadable = [Unavailable("away", reason="AWAY")]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0):
                await sources.fetch(["wiki/page/V", "wiki/page/W"])
        await asyncio.sleep(0.01)
        del sources
        gc.collect()

    asyncio.run(main())
    assert not problems and world.reads[:2] == [[b"T", b"U"], [b"T", b"U"]] and not world.unreadable


def test_a_shared_input_is_read_once_for_the_slice():
    world = World()
    world.put_source("T")

    async def page(request):
        found = await request.fetch(["wiki/page/T", request.resource, "elsewhere/T"])
        assert found["wiki/page/T"] is not None and found["elsewhere/T"] is None
        return RenderResult(b"x", "t")

    world.pages = {f"wiki/page/{n}": page for n in range(20)}
    report = slice_of(world, *map(str, range(20)))
    assert report.changed == 20
    assert sum(reads.count(b"T") for reads in world.reads) == 1


def test_hashes_tell_all_that_is_stored_apart():
    assert (
        len(
            {
                output_hash(*args)
                for args in [
                    (b"a", "t", ()),
                    (b"b", "t", ()),
                    (b"a", "u", ()),
                    (b"a", "t", ("x",)),
                    (b"a", "t", ("x", "y")),
                    (b"a", "t", ("xy",)),
                    (b"", "t", ()),
                    (None, "t", ()),
                ]
            }
        )
        == 8
    )
