"""A namespace copied out and written in again is the same for every reader; twice is as good as once."""

from typing import Any

import google_crc32c

from services.storage.conformance.kit import DAY_US, HOUR_US, Bench, Case, keys, older_than
from services.storage.domain.copying import Copied
from services.storage.domain.errors import QuotaExceeded
from services.storage.domain.model import Item, Mode, Put, Selection
from services.storage.domain.namespace import Namespace, Quota, Retention
from services.storage.store import manifest as manifests
from services.storage.store.interface import ScannedRecord
from services.storage.store.manifest import Manifest


async def copied(case: Case, space: Namespace) -> list[Copied | bytes]:
    """The whole namespace."""
    return [part async for part in case.store.copy(space)]


async def uploaded(case: Case, space: Namespace, record: bytes, key: bytes, value: bytes, size: int) -> None:
    """Puts a value by chunks of ``size`` bytes."""
    upload = await case.store.begin_upload(space, case.clock())
    chunks = [value[at : at + size] for at in range(0, len(value), size)]
    for index, chunk in enumerate(chunks):
        await case.store.put_chunk(space, upload, index, chunk)
    made = Manifest(upload, len(value), google_crc32c.value(value), tuple(map(len, chunks)))
    await case.put(space, record, (Put(key, manifests.encode(made), chunked=True),))


async def loaded(case: Case, space: Namespace, parts: list[Copied | bytes], **rest: Any) -> list[bool]:
    """Writes a copy, big values first as uploads."""
    items: list[Copied] = []
    at = 0
    while at < len(parts):
        item = parts[at]
        assert isinstance(item, Copied)
        at += 1
        if item.put.chunked:
            upload = await case.store.begin_upload(space, case.clock())
            sizes: list[int] = []
            while sum(sizes) < item.size:
                piece = parts[at]
                assert isinstance(piece, bytes)
                await case.store.put_chunk(space, upload, len(sizes), piece)
                sizes.append(len(piece))
                at += 1
            value = manifests.encode(Manifest(upload, item.size, item.crc32c, tuple(sizes)))
            item = item._replace(put=item.put._replace(value=value))
        items.append(item)
    return await case.store.load(space, items, free=rest.get("free", False))


async def fill(case: Case, space: Namespace) -> None:
    """Records of every kind."""
    await case.put(space, b"flat", {b"": b"value"})
    await case.put(space, b"\x00\xff\x00", {b"": b"", b"\x00": b"1", b"\xff" * 900: b"2"})
    await case.put(space, b"wide", {b"%04d" % number: b"x" * 100 for number in range(700)})
    await case.put(space, b"large", {b"": b"y" * 300_000})
    await case.put(space, b"notes", (Put(b"k", b"v", "text/plain", (("a", "b"), ("c", "")), case.clock() + DAY_US),))
    await case.put(space, b"gone", (Put(b"", b"v", expire_us=case.clock() + HOUR_US),))
    await case.put(space, b"half", {b"1": b"1", b"2": b"2"})
    await case.delete(space, b"half", keys(b"1"))
    await uploaded(case, space, b"big", b"blob", bytes(range(256)) * 999, 100_000)
    await case.pass_time(2 * HOUR_US, sweep=False)


def _small(record: ScannedRecord) -> list[Item]:
    return [item for item in record.items if not item.chunked]


def test_a_copy_written_elsewhere_reads_the_same(bench: Bench) -> None:
    async def story(case: Case) -> None:
        for mode in Mode:
            space = await case.space(mode)
            await fill(case, space)
            if mode is Mode.LWW:
                rendered = (Put(b"", b"html", condition=older_than(7)),)
                await case.put(space, b"rendered", rendered)
            parts = await copied(case, space)
            other = await case.space(mode)
            assert all(await loaded(case, other, parts))
            await case.reopen()
            here, there = await case.scan(space), await case.scan(other)
            assert [(one.record, _small(one)) for one in here] == [(one.record, _small(one)) for one in there]
            assert b"gone" not in [one.record for one in there]
            before, after = await case.store.usage(space), await case.store.usage(other)
            assert after.items == before.items - 1 and after.records == before.records - 1  # but the one that expired
            again = await copied(case, other)
            versions = [one.version for one in parts if isinstance(one, Copied)]
            assert [one.version for one in again if isinstance(one, Copied)] == versions
            if mode is Mode.CAS:
                # the etag of a record is also that of a delete in it
                pages = [await case.page(one, b"half") for one in (space, other)]
                assert pages[0].version == pages[1].version != pages[1].items[0].version
            item, manifest, _ = await case.store.manifest(other, b"big", b"blob")
            assert manifest is not None and item.size == 256 * 999
            value = b"".join([chunk async for chunk in case.store.chunks(other, manifest, 0, item.size)])
            assert value == bytes(range(256)) * 999

    bench.run(story)


def test_writing_a_copy_again_changes_nothing(bench: Bench) -> None:
    async def story(case: Case) -> None:
        for mode in Mode:
            space, other = await case.space(mode), await case.space(mode)
            await case.put(space, b"a", {b"1": b"1", b"2": b"2"})
            await case.put(space, b"b", {b"": b"b"})
            parts = await copied(case, space)
            assert await loaded(case, other, parts) == [True, True, True]
            usage = (await case.store.usage(other))[:3]
            events = await case.events(other)
            assert [(one.record, one.created) for one in events] == [(b"a", True), (b"b", True)]
            assert await loaded(case, other, parts) == [False] * 3
            assert (await case.store.usage(other))[:3] == usage and await case.events(other) == events
            assert await loaded(case, space, parts) == [False] * 3

    bench.run(story)


def test_what_is_newer_stays(bench: Bench) -> None:
    async def story(case: Case) -> None:
        for mode in Mode:
            space, other = await case.space(mode), await case.space(mode)
            await case.put(space, b"a", {b"1": b"old", b"2": b"old"})
            parts = await copied(case, space)
            newer = await case.put(other, b"a", {b"1": b"new"})
            assert await loaded(case, other, parts) == [False, True]
            assert await case.items(other, b"a") == {b"1": b"new", b"2": b"old"}
            page = await case.page(other, b"a")
            assert page.version >= newer.version, "the record's version went back"
            await case.put(space, b"a", {b"1": b"newest"})
            assert await loaded(case, other, await copied(case, space)) == [True, False]
            assert (await case.items(other, b"a"))[b"1"] == b"newest"

    bench.run(story)


def test_a_delete_of_an_lww_namespace_holds_off_what_is_older(bench: Bench) -> None:
    async def story(case: Case) -> None:
        space = await case.space(Mode.LWW)
        await case.put(space, b"a", {b"": b"old"})
        await case.put(space, b"r", (Put(b"", b"html", condition=older_than(7)),))
        parts = await copied(case, space)
        await case.delete(space, b"a")
        await case.delete(space, b"r")
        assert await loaded(case, space, parts) == [False, False]
        assert await case.contents(space) == {}

    bench.run(story)


def test_writes_after_a_restore_go_on_above_it(bench: Bench) -> None:
    """A CAS namespace gives versions above all that it was given, also when its clock is behind them."""

    async def story(case: Case) -> None:
        space, other = await case.space(Mode.CAS), await case.space(Mode.CAS)
        await case.put(space, b"a", {b"": b"1"})
        parts = await copied(case, space)
        await loaded(case, other, parts)
        await case.reopen()
        case.clock.now_us -= HOUR_US
        receipt = await case.put(other, b"a", {b"": b"2"})
        assert isinstance(parts[0], Copied) and receipt.version > parts[0].version

    bench.run(story)


def test_a_copy_is_one_moment(bench: Bench) -> None:
    async def story(case: Case) -> None:
        space = await case.space(Mode.LWW)
        for number in range(600):
            await case.put(space, b"r%04d" % number, {b"": b"before"})
        await uploaded(case, space, b"z", b"", b"before" * 50_000, 100_000)
        copy = case.store.copy(space)
        parts = [await anext(copy)]
        for number in range(700):
            await case.put(space, b"r%04d" % number, {b"": b"after"})
        await case.delete(space, b"r0500")
        await uploaded(case, space, b"z", b"", b"after" * 50_000, 100_000)
        await case.pass_time(30 * HOUR_US)  # the chunks that nobody names any more are swept
        parts += [part async for part in copy]
        values = {one.record: one.put.value for one in parts if isinstance(one, Copied) and not one.put.chunked}
        assert values == {b"r%04d" % number: b"before" for number in range(600)}
        assert b"".join(part for part in parts if isinstance(part, bytes)) == b"before" * 50_000

    bench.run(story)


def test_retention_and_quota_hold_for_what_is_written_in(bench: Bench) -> None:
    async def story(case: Case) -> None:
        space = await case.space(Mode.LWW)
        await case.put(space, b"a", {b"": b"a" * 1000})
        await case.put(space, b"b", {b"": b"b" * 1000})
        parts = await copied(case, space)
        small = await case.space(Mode.LWW, quota=Quota(max_bytes=1500))
        try:
            await loaded(case, small, parts)
            raise AssertionError("more was written than the quota allows")
        except QuotaExceeded as error:
            assert error.metadata["quota"] == "max_bytes"
        assert await case.contents(small) == {b"a": {b"": b"a" * 1000}}
        assert await loaded(case, small, parts, free=True) == [False, True]
        kept = await case.space(Mode.LWW, retention=Retention(max_versions=3))
        await loaded(case, kept, parts)
        await case.put(space, b"a", {b"": b"c"})
        await loaded(case, kept, await copied(case, space))
        versions, _ = await case.store.versions(kept, b"a", b"", None, 10, omit_values=False)
        assert [one.item.value[:1] for one in versions] == [b"c", b"a"]

    bench.run(story)


def test_single_records_are_copied_and_deletes_carried_along(bench: Bench) -> None:
    async def story(case: Case) -> None:
        for mode in Mode:
            space, other = await case.space(mode), await case.space(mode)
            await fill(case, space)
            if mode is Mode.LWW:
                await case.put(space, b"flat", (Put(b"r", b"html", condition=older_than(7)),))
            await loaded(case, other, await copied(case, space))
            some = [part async for part in case.store.copy(space, [b"half", b"nothing", b"flat", b"half"])]
            assert [one.record for one in some if isinstance(one, Copied)].count(b"half") == 1
            items = [one for one in some if isinstance(one, Copied)]
            gone = [one._replace(gone=True, version=bytes(16) if one.ordered else one.version) for one in items]
            assert all(await case.store.load(other, gone, free=False))
            assert not any(await case.store.load(other, gone, free=False))
            left = await case.contents(space)
            del left[b"half"], left[b"flat"]
            assert await case.contents(other) == left
            older = items[0]._replace(gone=True, version=bytes(16), ordered=False)
            assert await case.store.load(space, [older], free=False) == [False]

    bench.run(story)


def test_profiles_documents_and_buckets(bench: Bench) -> None:
    async def story(case: Case) -> None:
        space = await case.space(Mode.LWW)
        await case.put(space, b"a", {b"%d" % number: b"x" * 50_000 for number in range(4)})
        await case.put(space, b"b", {b"1": b"1", b"2": b"2"})
        await case.delete(space, b"b", Selection((b"1",)))
        first, second = await case.store.profile(space, b"", 10)
        assert (first.record, first.items, first.tombstones) == (b"a", 4, 0)
        assert first.size_bytes > 200_000 and 50_000 <= first.largest < 60_000
        assert (second.record, second.items, second.tombstones, second.largest) == (b"b", 1, 1, second.size_bytes)
        assert [one.record for one in await case.store.profile(space, b"b", 10)] == [b"b"]
        assert await case.store.rebucket(space, b"nothing") is None
        assert await case.store.rebucket(space, b"a") is not None
        store = case.store
        assert await store.document("kind", "x") is None and await store.documents("kind") == []
        for name in ("b", "a"):
            await store.put_document("kind", name, name.encode())
        await store.put_document("kinder", "c", b"")
        await case.reopen()
        assert await case.store.documents("kind") == [("a", b"a"), ("b", b"b")]
        await case.store.put_document("kind", "a", None)
        assert await case.store.document("kind", "a") is None
        assert await case.store.document("kind", "b") == b"b"

    bench.run(story)
