"""What the embedded store promises while nothing goes wrong, and that wrong use is refused."""

import asyncio
import random

import pytest

from libs.embedded.failures import DiskFull, QueueFull, StoreUnavailable
from libs.embedded.family import prefix_end
from libs.embedded.settings import Compression, FamilySpec, Settings
from libs.embedded.store import EmbeddedStore

FAMILIES = (
    FamilySpec("a"),
    FamilySpec("b", compression=Compression.ZSTD, bloom_bits=0),
    FamilySpec("c", large_values_bytes=4096),
)
SMALL = Settings(cache_bytes=1 << 20, write_buffer_bytes=1 << 20, reserve_bytes=0)


def opened(path, **changes):
    arguments = {
        "schema": "test",
        "version": 1,
        "families": FAMILIES,
        "settings": SMALL,
    } | changes
    return EmbeddedStore.open(path, **arguments)


def test_commit_is_read_back_and_survives_a_restart(tmp_path):
    async def write():
        with opened(tmp_path) as store:
            batch = store.batch()
            batch.put(store.family("a"), b"k", b"v")
            batch.put_many(store.family("b"), [(b"1", b"x"), (b"2", b"y")])
            batch.put(store.family("c"), b"big", b"z" * 10_000)
            await store.commit(batch)
            assert store.family("a").get(b"k") == b"v"

    asyncio.run(write())
    with opened(tmp_path) as store:
        assert store.family("a").get(b"k") == b"v"
        assert store.family("a").get(b"absent") is None
        assert store.family("b").get_many([b"2", b"none", b"1"]) == [b"y", None, b"x"]
        assert store.family("c").get(b"big") == b"z" * 10_000
        assert store.family("a").has(b"k") and not store.family("b").has(b"k")


def test_submit_is_visible_at_once_so_that_the_loop_is_the_lock(tmp_path):
    async def run():
        with opened(tmp_path) as store:
            family = store.family("a")

            async def add_one():
                def decide(batch):
                    value = int(family.get(b"n") or b"0") + 1
                    batch.put(family, b"n", b"%d" % value)
                    return value

                return await store.transact(decide)

            answers = await asyncio.gather(*(add_one() for _ in range(500)))
            assert sorted(answers) == list(range(1, 501)), "two transactions read the same value"
            assert family.get(b"n") == b"500"
            assert store.syncs < 500, "commits that wait together share a sync"

    asyncio.run(run())


def test_batches_apply_in_the_order_of_submission(tmp_path):
    async def run():
        with opened(tmp_path) as store:
            family = store.family("a")
            futures = []
            for number in range(300):
                batch = store.batch()
                batch.delete_range(family, b"", b"\xff")
                batch.put(family, b"last", b"%d" % number)
                futures.append(store.submit(batch))
                assert family.get(b"last") == b"%d" % number
            await asyncio.gather(*futures)
            assert list(family.scan()) == [(b"last", b"299")]

    asyncio.run(run())


@pytest.mark.parametrize("seed", range(5))
def test_scans_agree_with_a_sorted_list(tmp_path, seed):
    print(f"seed {seed}")
    rng = random.Random(seed)
    with opened(tmp_path) as store:
        family = store.family("a")
        model = {bytes(rng.choices(b"\x00ab\xff", k=rng.randrange(4))): b"%d" % number for number in range(60)}
        batch = store.batch()
        batch.put_many(family, model.items())
        store.write_through(batch)
        keys = [*model, b"", b"a", b"\xff\xff\xff\xff", b"\x00", None]
        with store.snapshot() as snapshot:
            batch = store.batch()
            batch.delete_many(family, list(model)[::2])
            batch.put(family, b"zz", b"new")
            store.write_through(batch)
            now = {k: v for k, v in model.items() if k not in set(list(model)[::2])} | {b"zz": b"new"}
            for _ in range(200):
                prefix, start, end, reverse = (
                    rng.choice(keys),
                    rng.choice(keys),
                    rng.choice(keys),
                    rng.random() < 0.5,
                )

                def expected(items, prefix=prefix, start=start, end=end, reverse=reverse):
                    return [
                        (k, v)
                        for k, v in sorted(items.items(), reverse=reverse)
                        if k.startswith(prefix or b"") and k >= (start or b"") and (end is None or k < end)
                    ]

                ranged = {"start": start, "end": end, "reverse": reverse}
                assert list(family.scan(prefix, **ranged)) == expected(now)
                assert list(family.scan_keys(prefix, **ranged)) == [k for k, _ in expected(now)]
                assert list(snapshot.scan(family, prefix, **ranged)) == expected(model)
                assert list(pages(family, prefix, ranged, rng.randrange(1, 5))) == expected(now)
            assert snapshot.get_many(family, [b"zz", *model]) == [None, *model.values()]


def pages(family, prefix, ranged, max_items):
    ranged = dict(ranged)
    while True:
        page = family.page(prefix, **ranged, max_items=max_items)
        assert len(page.items) <= max_items
        yield from page.items
        if page.resume is None:
            return
        ranged["end" if ranged["reverse"] else "start"] = page.resume


def test_a_page_ends_at_its_bytes_but_is_never_empty(tmp_path):
    with opened(tmp_path) as store:
        family = store.family("a")
        batch = store.batch()
        batch.put_many(family, [(b"%d" % number, b"v" * 99) for number in range(5)])
        store.write_through(batch)
        assert len(family.page(max_bytes=250).items) == 2
        assert len(family.page(max_bytes=1).items) == 1
        assert family.page(max_items=5).resume is None
        with pytest.raises(ValueError, match="at least one"):
            family.page(max_items=0)


def test_prefix_end():
    assert prefix_end(b"ab") == b"ac"
    assert prefix_end(b"a\xff\xff") == b"b"
    assert prefix_end(b"\xff") is None
    assert prefix_end(b"") is None


def test_a_snapshot_says_when_two_reads_cross(tmp_path):
    with opened(tmp_path) as store:
        family = store.family("a")
        batch = store.batch()
        batch.put_many(family, [(b"1", b""), (b"2", b""), (b"3", b"")])
        store.write_through(batch)
        snapshot = store.snapshot("a")
        scan = snapshot.scan(family)
        next(scan)
        assert snapshot.get(family, b"3") == b""
        with pytest.raises(RuntimeError, match="interrupted"):
            next(scan)
        with pytest.raises(StoreUnavailable, match="without the family b"):
            snapshot.get(store.family("b"), b"1")
        snapshot.close()
        with pytest.raises(StoreUnavailable, match="closed"):
            snapshot.get(family, b"1")


def test_a_range_that_runs_backwards_is_refused_before_it_reaches_the_log(tmp_path):
    with opened(tmp_path) as store:
        batch = store.batch()
        with pytest.raises(ValueError, match="start lies after end"):
            batch.delete_range(store.family("a"), b"b", b"a")
        batch.delete_range(store.family("a"), b"a", b"a")
        assert len(batch) == 0
        batch.put(store.family("a"), b"k", b"v")
        store.write_through(batch)
        with pytest.raises(ValueError, match="committed before"):
            store.write_through(batch)


def test_the_queue_of_commits_is_bounded(tmp_path):
    async def run():
        settings = Settings(
            cache_bytes=1 << 20,
            write_buffer_bytes=1 << 20,
            reserve_bytes=0,
            max_pending_commits=3,
        )
        with opened(tmp_path, settings=settings) as store:
            futures = []
            for number in range(3):
                batch = store.batch()
                batch.put(store.family("a"), b"%d" % number, b"")
                futures.append(store.submit(batch))
            refused = store.batch()
            refused.put(store.family("a"), b"refused", b"")
            with pytest.raises(QueueFull):
                store.submit(refused)
            assert store.family("a").get(b"refused") is None
            assert store.pending == 3
            await store.commit(refused)  # waits for room instead
            assert all(future.done() for future in futures)

            async def put(number):
                batch = store.batch()
                batch.put(store.family("a"), b"%d" % number, b"")
                await store.commit(batch)
                assert store.pending <= 3

            await asyncio.gather(*(put(number) for number in range(200)))
            assert len(list(store.family("a").scan())) == 201

    asyncio.run(run())


def test_a_caller_that_goes_away_does_not_undo_or_block_others(tmp_path):
    async def run():
        with opened(tmp_path) as store:
            family = store.family("a")
            tasks = []
            for number in range(50):
                batch = store.batch()
                batch.put(family, b"%02d" % number, b"")
                tasks.append(asyncio.create_task(store.commit(batch)))
            await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            done = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(answer is None for answer in done[1::2])
            assert len(list(family.scan())) == 50
            await store.durable()
            assert store.pending == 0

    asyncio.run(run())


def test_a_barrier_waits_for_its_batch_and_no_other(tmp_path):
    async def run():
        with opened(tmp_path) as store:
            family = store.family("a")
            await store.durable()  # nothing was written
            first = store.batch()
            first.put(family, b"1", b"")
            store.submit(first).cancel()  # the caller went away
            sequence = store.written_sequence
            assert (sequence, store.durable_sequence) == (1, 0)
            waits = asyncio.gather(store.durable(sequence), store.durable(), store.durable(sequence + 100))
            for number in range(20):
                batch = store.batch()
                batch.put(family, b"%d" % number, b"")
                store.submit(batch)
            await store.durable(sequence)
            assert store.durable_sequence >= 1
            await waits
            await store.durable()
            assert store.durable_sequence == store.written_sequence == 21
            syncs = store.syncs
            await store.durable()
            assert store.syncs == syncs, "nothing waits: nothing is synced"

    asyncio.run(run())


def test_puts_stop_at_the_reserve_and_go_on_when_there_is_space(tmp_path):
    free = {"bytes": 1 << 40}
    settings = Settings(cache_bytes=1 << 20, write_buffer_bytes=1 << 20, reserve_bytes=8 << 20)

    async def run():
        with opened(tmp_path, settings=settings, free=lambda _: free["bytes"]) as store:
            family = store.family("a")
            first = store.batch()
            first.put(family, b"1", b"v" * (2 << 20))
            await store.commit(first)
            free["bytes"] = 5 << 20
            second = store.batch()
            second.put(family, b"2", b"v" * (2 << 20))
            with pytest.raises(DiskFull, match="5 MiB free and 8 MiB are kept"):
                await store.commit(second)
            assert family.get(b"2") is None, "a refused batch leaves nothing"
            delete = store.batch()
            delete.delete(family, b"1")
            await store.commit(delete)
            free["bytes"] = 1 << 40
            await store.commit(second)
            assert store.failure is None

    asyncio.run(run())
    free["bytes"] = 0
    with pytest.raises(DiskFull, match="cannot be opened"):
        opened(tmp_path, settings=settings, free=lambda _: free["bytes"])


def test_bulk_loading_shows_all_or_nothing(tmp_path):
    with opened(tmp_path) as store:
        family = store.family("b")
        assert store.ingest("b", ((b"%06d" % number, b"v") for number in range(50_000))) == 50_000
        assert sum(1 for _ in family.scan()) == 50_000
        with pytest.raises(ValueError, match="strictly ascending"):
            store.ingest("b", [(b"x", b"1"), (b"z", b"1"), (b"y", b"1")])
        assert family.get(b"x") is None
        assert store.ingest("b", []) == 0
        assert store.ingest("b", [(b"000000", b"new")]) == 1
        assert family.get(b"000000") == b"new"
    with opened(tmp_path) as store:
        assert sum(1 for _ in store.family("b").scan()) == 50_000
        assert store.sizes()["b"].disk_bytes > 0
        assert not (tmp_path / "ingest").exists()


def test_a_checkpoint_is_a_data_directory_of_its_own(tmp_path):
    async def run():
        with opened(tmp_path / "data") as store:
            family = store.family("a")
            batch = store.batch()
            batch.put(family, b"k", b"before")
            await store.commit(batch)
            await store.checkpoint(tmp_path / "copy")
            batch = store.batch()
            batch.put(family, b"k", b"after")
            await store.commit(batch)
            with opened(tmp_path / "copy") as copy:
                assert copy.family("a").get(b"k") == b"before"
            assert family.get(b"k") == b"after"

    asyncio.run(run())


def test_a_closed_store_says_so(tmp_path):
    async def run():
        store = opened(tmp_path)
        family = store.family("a")
        batch = store.batch()
        batch.put(family, b"k", b"v")
        waiting = store.submit(batch)
        store.close()
        store.close()
        await waiting  # close syncs before it gives up
        for call in (
            lambda: family.get(b"k"),
            lambda: store.submit(batch),
            lambda: list(family.scan()),
            store.snapshot,
        ):
            with pytest.raises(StoreUnavailable):
                call()
        with pytest.raises(StoreUnavailable):
            await store.transact(lambda batch: None)

    asyncio.run(run())
    with opened(tmp_path) as store:
        assert store.family("a").get(b"k") == b"v"


def test_compaction_frees_what_was_deleted(tmp_path):
    async def run():
        with opened(tmp_path) as store:
            rng = random.Random(1)
            store.ingest(
                "a",
                ((b"%06d" % number, rng.randbytes(200)) for number in range(20_000)),
            )
            full = store.sizes()["a"].disk_bytes
            batch = store.batch()
            batch.delete_range(store.family("a"), b"0", b"019000")
            await store.commit(batch)
            await store.compact("a")
            assert store.sizes()["a"].disk_bytes < full / 10
            assert store.family("a").first()[0] == b"019000"
            assert store.family("a").last()[0] == b"019999"

    asyncio.run(run())


def test_settings_out_of_range_are_named():
    with pytest.raises(ValueError, match=r"Settings\.cache_bytes is 5; 1048576 or more"):
        Settings(cache_bytes=5)
