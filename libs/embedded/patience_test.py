"""Patient batches: they share a sync with those that come, and never wait for longer than they said."""

import asyncio

from libs.embedded.settings import FamilySpec
from libs.embedded.store import EmbeddedStore

FOR_EVER_S = 3_600.0


def opened(path):
    return EmbeddedStore.open(path, schema="test", version=1, families=[FamilySpec("things")])


def submit(store, number, patience_s=0.0):
    batch = store.batch()
    batch.put(store.family("things"), b"%d" % number, b"value")
    return store.submit(batch, patience_s)


def test_a_patient_batch_that_nobody_joins_is_durable_when_its_patience_ends(tmp_path):
    async def main():
        with opened(tmp_path) as store:
            for number in range(3):
                await asyncio.wait_for(submit(store, number, 0.01), 60)
            assert store.durable_sequence == store.written_sequence == store.syncs == 3

    asyncio.run(main())


def test_one_that_does_not_wait_takes_the_patient_ones_along(tmp_path):
    async def main():
        with opened(tmp_path) as store:
            patient = [submit(store, number, FOR_EVER_S) for number in range(100)]
            await asyncio.sleep(0)
            assert store.syncs == 0 and not any(future.done() for future in patient)
            await asyncio.wait_for(submit(store, 100), 60)
            assert all(future.done() for future in patient) and store.syncs == 1

    asyncio.run(main())


def test_the_least_patient_decides(tmp_path):
    async def main():
        with opened(tmp_path) as store:
            first, second = submit(store, 0, FOR_EVER_S), submit(store, 1, 0.01)
            await asyncio.wait_for(asyncio.gather(first, second), 60)
            assert store.syncs == 1

    asyncio.run(main())


def test_who_asks_for_durability_does_not_wait_for_their_patience(tmp_path):
    async def main():
        with opened(tmp_path) as store:
            patient = [submit(store, number, FOR_EVER_S) for number in range(10)]
            await asyncio.wait_for(store.durable(), 60)
            assert all(future.done() for future in patient)

    asyncio.run(main())


def test_patient_ones_that_come_during_a_sync_get_one_of_their_own(tmp_path):
    async def main():
        with opened(tmp_path) as store:
            for round_ in range(50):
                hurried = submit(store, 2 * round_)
                patient = submit(store, 2 * round_ + 1, 0.001)
                await asyncio.wait_for(asyncio.gather(hurried, patient), 60)
            assert store.durable_sequence == 100

    asyncio.run(main())


def test_closing_makes_patient_ones_durable(tmp_path):
    async def main():
        store = opened(tmp_path)
        future = submit(store, 7, FOR_EVER_S)
        store.close()
        await asyncio.wait_for(future, 60)
        with opened(tmp_path) as again:
            assert again.family("things").get(b"7") == b"value"

    asyncio.run(main())
