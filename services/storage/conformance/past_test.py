"""Conformance: earlier versions, deletes taken back, and big values in chunks."""

import google_crc32c
import pytest

from services.storage.conformance.kit import DAY_US, HOUR_US, MINUTE_US, Bench, Case, between, keys
from services.storage.domain.errors import ChecksumMismatch, ItemNotFound, VersionNotFound
from services.storage.domain.model import ALL, Mode, Outcome, Put, Receipt
from services.storage.domain.namespace import Namespace, Retention
from services.storage.store import manifest as manifests
from services.storage.store.interface import KeptVersion
from services.storage.store.manifest import Manifest

BOTH = pytest.mark.parametrize("mode", list(Mode))


async def versions(case: Case, space: Namespace, key: bytes, limit: int = 1000) -> list[KeptVersion]:
    """All versions of an item of the record r, by pages."""
    found: list[KeptVersion] = []
    after = None
    while True:
        some, after = await case.store.versions(space, b"r", key, after, limit, omit_values=False)
        assert len(some) <= limit
        found += some
        if after is None:
            return found


@BOTH
def test_the_last_versions_are_kept(bench: Bench, mode: Mode) -> None:
    async def story(case: Case) -> None:
        space = await case.space(mode, retention=Retention(max_versions=3))
        for key in (b"", b"k"):
            receipts = [await case.put(space, b"r", {key: b"%d" % number}) for number in range(6)]
            for limit in (1, 2, 1000):
                found = await versions(case, space, key, limit)
                assert [one.item.value for one in found] == [b"5", b"4", b"3", b"2"]
                assert [one.item.version for one in found] == [one.version for one in receipts[:1:-1]]
        assert await versions(case, space, b"other") == []
        assert len(await case.items(space, b"r")) == 2
        assert (await case.store.usage(space)).items == 2

    bench.run(story)


@BOTH
def test_versions_are_kept_for_a_time(bench: Bench, mode: Mode) -> None:
    async def story(case: Case) -> None:
        space = await case.space(mode, retention=Retention(max_version_age_us=DAY_US))
        await case.put(space, b"r", {b"k": b"1"})
        await case.pass_time(HOUR_US)
        await case.put(space, b"r", {b"k": b"2"})
        await case.delete(space, b"r", keys(b"k"))
        await case.put(space, b"r", {b"k": b"3"})
        found = [(one.item.value, one.deleted) for one in await versions(case, space, b"k", 1)]
        assert found == [(b"3", False), (b"", True), (b"2", False), (b"1", False)]
        await case.pass_time(DAY_US - MINUTE_US)
        found = [(one.item.value, one.deleted) for one in await versions(case, space, b"k")]
        assert found == [(b"3", False), (b"", True), (b"2", False)]
        await case.pass_time(DAY_US)
        assert [one.item.value for one in await versions(case, space, b"k")] == [b"3"]

    bench.run(story)


@BOTH
def test_a_delete_is_taken_back(bench: Bench, mode: Mode) -> None:
    async def story(case: Case) -> None:
        space = await case.space(mode, retention=Retention(undelete_window_us=HOUR_US))

        async def undelete(selection=ALL, version: bytes = b"", token=None) -> Receipt:
            command = case.command(b"r", token=token)
            return await case.store.undelete(space, command, selection, version)

        with pytest.raises(VersionNotFound):
            await undelete()
        expiring = Put(b"soon", b"x", expire_us=case.clock() + MINUTE_US)
        await case.put(space, b"r", (Put(b"", b"0", "text/plain", (("a", "b"),)), Put(b"a", b"1"), expiring))
        first = await case.delete(space, b"r", keys(b"a"))
        second = await case.delete(space, b"r")
        assert second.deleted_items == 2
        await case.pass_time(MINUTE_US)
        token = case.token()
        restored = await undelete(token=token)
        assert restored.deleted_items == 1 and restored.outcome is Outcome.APPLIED
        assert (await undelete(token=token)).outcome is Outcome.REPEATED
        (item,) = (await case.page(space, b"r")).items
        assert (item.value, item.content_type, item.attributes) == (b"0", "text/plain", (("a", "b"),))
        with pytest.raises(ItemNotFound):
            await undelete(between(b"b", b"c"), first.version)
        await case.put(space, b"r", {b"a": b"newer"})
        with pytest.raises(ItemNotFound):
            await undelete(version=first.version)
        await case.delete(space, b"r", keys(b"a"))
        await undelete(version=first.version)
        assert await case.items(space, b"r") == {b"": b"0", b"a": b"1"}
        assert (await case.events(space))[-1].items[0].key == b"a"
        await case.delete(space, b"r")
        await case.reopen()
        await case.pass_time(HOUR_US + 1)
        with pytest.raises(VersionNotFound):
            await undelete()

    bench.run(story)


async def upload(case: Case, space: Namespace, *chunks: bytes, finish: bool = True) -> Manifest:
    """Chunks stored; named by the item "big" of the record r when finished."""
    name = await case.store.begin_upload(space, case.clock())
    crc = 0
    for index, chunk in enumerate(chunks):
        await case.store.put_chunk(space, name, index, chunk)
        crc = google_crc32c.extend(crc, chunk)
    manifest = Manifest(name, sum(map(len, chunks)), crc, tuple(map(len, chunks)))
    if finish:
        await case.put(space, b"r", (Put(b"big", manifests.encode(manifest), chunked=True),))
    return manifest


async def download(case: Case, space: Namespace, offset: int = 0, limit: int = 1 << 40) -> bytes:
    """The bytes of the item "big" of the record r."""
    item, manifest, value = await case.store.manifest(space, b"r", b"big")
    if manifest is None:
        return value[offset : offset + limit]
    assert item.size == manifest.size and item.chunked and item.value == b""
    return b"".join([chunk async for chunk in case.store.chunks(space, manifest, offset, limit)])


@BOTH
def test_a_big_value_comes_back_whole_or_in_part(bench: Bench, mode: Mode) -> None:
    async def story(case: Case) -> None:
        space = await case.space(mode)
        chunks = (b"a" * 100_000, b"b", b"c" * 70_000)
        whole = b"".join(chunks)
        await upload(case, space, *chunks)
        await case.reopen()
        assert await download(case, space) == whole
        for offset, limit in ((0, 1), (99_999, 3), (100_001, 10), (len(whole) - 1, 100), (len(whole), 5)):
            assert await download(case, space, offset, limit) == whole[offset : offset + limit]
        page = await case.page(space, b"r")
        assert (page.items[0].size, page.items[0].chunked, page.items[0].value) == (len(whole), True, b"")
        assert (await case.store.usage(space)).size_bytes >= len(whole)
        assert (await case.events(space))[0].items[0].size == len(whole)
        await upload(case, space)
        assert await download(case, space) == b""
        with pytest.raises(ItemNotFound):
            await case.store.manifest(space, b"r", b"none")

    bench.run(story)


@BOTH
def test_chunks_go_when_nothing_names_them(bench: Bench, mode: Mode) -> None:
    async def story(case: Case) -> None:
        space = await case.space(mode)
        old = await upload(case, space, b"old")
        new = await upload(case, space, b"new")
        dropped = await upload(case, space, b"dropped", finish=False)
        await case.store.drop_upload(space, dropped.upload)
        orphan = await upload(case, space, b"orphan", finish=False)

        async def there(manifest: Manifest) -> bool:
            try:
                return bool([chunk async for chunk in case.store.chunks(space, manifest, 0, 9)])
            except ChecksumMismatch:
                return False

        assert [await there(one) for one in (old, new, dropped, orphan)] == [True, True, False, True]
        await case.pass_time(2 * HOUR_US)
        assert [await there(one) for one in (old, new, dropped, orphan)] == [False, True, False, True]
        await case.pass_time(2 * DAY_US)
        assert [await there(one) for one in (old, new, dropped, orphan)] == [False, True, False, False]
        assert await download(case, space) == b"new"
        await case.delete(space, b"r")
        await case.pass_time(2 * HOUR_US)
        assert not await there(new)

    bench.run(story)


def test_chunks_of_earlier_versions_live_as_long_as_these(bench: Bench) -> None:
    async def story(case: Case) -> None:
        space = await case.space(Mode.CAS, retention=Retention(undelete_window_us=2 * DAY_US, max_versions=1))
        await upload(case, space, b"first")
        await upload(case, space, b"second")
        deleted = await case.delete(space, b"r")
        await case.pass_time(DAY_US)
        command = case.command(b"r")
        await case.store.undelete(space, command, ALL, deleted.version)
        await case.pass_time(9 * DAY_US)
        assert await download(case, space) == b"second"

    bench.run(story)
