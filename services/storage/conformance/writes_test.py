"""Conformance: what writes do, in both modes."""

import pytest

from libs.errors.errors import WellspringError
from services.storage.conformance.kit import (
    HOUR_US,
    MINUTE_US,
    Bench,
    Case,
    absent,
    between,
    etag,
    keys,
)
from services.storage.domain import limits
from services.storage.domain.errors import (
    ClockDrift,
    ConditionFailed,
    DeleteTooLarge,
    ItemNotFound,
    QuotaExceeded,
    TokenReused,
)
from services.storage.domain.model import ALL, Mode, Outcome, Put
from services.storage.domain.namespace import Quota
from services.storage.store.interface import Write

BOTH = pytest.mark.parametrize("mode", list(Mode))


@BOTH
def test_what_is_written_is_read_at_once(bench: Bench, mode: Mode) -> None:
    async def story(case: Case) -> None:
        space = await case.space(mode)
        receipt = await case.put(space, b"r", {b"": b"flat", b"a": b"1", b"b\0": b"2", b"b": b"3"})
        assert receipt.outcome is Outcome.APPLIED and len(receipt.version) == 16
        page = await case.page(space, b"r")
        assert [(item.key, item.value) for item in page.items] == [
            (b"", b"flat"),
            (b"a", b"1"),
            (b"b", b"3"),
            (b"b\0", b"2"),
        ]
        assert {item.version for item in page.items} == {receipt.version} and page.version == receipt.version
        assert page.found and page.resume is None
        assert not (await case.page(space, b"r\0")).found and not (await case.page(space, b"")).found

    bench.run(story)


@BOTH
def test_everything_survives_reopening(bench: Bench, mode: Mode) -> None:
    async def story(case: Case) -> None:
        space = await case.space(mode)
        item = Put(b"k", b"v", "text/html; charset=utf-8", (("a", "ä"), ("b", "")), case.clock() + HOUR_US)
        token = case.token()
        first = await case.put(space, b"r\0\xff", (item, Put(b"", b"x" * 100_000)), token=token)
        before = (await case.page(space, b"r\0\xff")).items
        usage = await case.store.usage(space)
        await case.reopen()
        assert (await case.page(space, b"r\0\xff")).items == before
        assert await case.store.namespaces() == [space]
        assert (await case.store.usage(space))[:3] == usage[:3]
        again = await case.put(space, b"r\0\xff", (item, Put(b"", b"x" * 100_000)), token=token)
        assert again.outcome is Outcome.REPEATED and again[1:4] == first[1:4]
        assert len(await case.events(space)) == 1
        assert before[1].content_type == item.content_type and before[1].attributes == item.attributes
        assert before[1].expire_us == item.expire_us

    bench.run(story)


@BOTH
def test_a_flat_item_moves_between_its_record_and_a_row_of_its_own(bench: Bench, mode: Mode) -> None:
    async def story(case: Case) -> None:
        space = await case.space(mode)
        for size in (10, 50_000, 10, 16_400, 0, 1 << 20):
            await case.put(space, b"r", {b"": b"x" * size})
            assert await case.items(space, b"r") == {b"": b"x" * size}
            usage = await case.store.usage(space)
            assert (usage.records, usage.items) == (1, 1) and usage.size_bytes >= size
        await case.delete(space, b"r")
        assert await case.items(space, b"r") == {}
        assert (await case.store.usage(space))[:3] == (0, 0, 0)

    bench.run(story)


@BOTH
def test_a_retry_is_the_same_write(bench: Bench, mode: Mode) -> None:
    async def story(case: Case) -> None:
        space = await case.space(mode)
        command = case.command(b"r", {b"a": b"1"})
        first = await case.write(space, command)
        await case.put(space, b"r", {b"a": b"2"})
        await case.pass_time(12 * HOUR_US)
        again = await case.write(space, command)
        assert again.outcome is Outcome.REPEATED and again[1:4] == first[1:4]
        assert await case.items(space, b"r") == {b"a": b"2"}
        with pytest.raises(TokenReused):
            await case.put(space, b"r", {b"a": b"other"}, token=command.token)
        # The same token on another record is another mutation, and now too old.
        with pytest.raises(ClockDrift):
            await case.put(space, b"s", {b"a": b"1"}, token=command.token)
        await case.pass_time(13 * HOUR_US)
        with pytest.raises(ClockDrift):
            await case.write(space, command)
        assert len(await case.events(space)) == 2

    bench.run(story)


@BOTH
def test_a_drifted_clock_is_refused(bench: Bench, mode: Mode) -> None:
    async def story(case: Case) -> None:
        space = await case.space(mode, max_clock_drift_us=MINUTE_US)
        for offset_us in (-MINUTE_US - 1, MINUTE_US + 1, -HOUR_US, 1000 * HOUR_US):
            with pytest.raises(ClockDrift) as raised:
                await case.put(space, b"r", {b"": b""}, token=case.token(offset_us))
            assert raised.value.violations[0][0] == "token.time"
        for offset_us in (-MINUTE_US, MINUTE_US):
            await case.put(space, b"r", {b"": b""}, token=case.token(offset_us))

    bench.run(story)


@BOTH
def test_deletes_count_and_may_be_tried_first(bench: Bench, mode: Mode) -> None:
    async def story(case: Case) -> None:
        space = await case.space(mode)
        await case.put(space, b"r", {b"": b"0", b"a": b"1", b"b": b"2", b"c": b"3"})
        dry = await case.delete(space, b"r", between(b"a", b"c"), dry_run=True)
        assert (dry.outcome, dry.deleted_items) == (Outcome.DRY_RUN, 2)
        assert len(await case.items(space, b"r")) == 4 and len(await case.events(space)) == 1
        assert (await case.delete(space, b"r", between(b"a", b"c"))).deleted_items == 2
        assert (await case.delete(space, b"r", keys(b"", b"x"))).deleted_items == 1
        with pytest.raises(ItemNotFound):
            await case.delete(space, b"r", keys(b"x"), must_exist=True)
        with pytest.raises(ItemNotFound):
            await case.delete(space, b"r", keys(b"x"), must_exist=True, dry_run=True)
        await case.delete(space, b"r", keys(b"x"))
        assert await case.items(space, b"r") == {b"c": b"3"}
        assert (await case.delete(space, b"r", must_exist=True)).deleted_items == 1
        with pytest.raises(ItemNotFound):
            await case.delete(space, b"r", must_exist=True)
        events = await case.events(space)
        assert [event.deleted for event in events] == [False, False, False, True]
        assert (await case.store.usage(space))[:3] == (0, 0, 0)

    bench.run(story)


@BOTH
def test_a_batch_answers_each_write_for_itself(bench: Bench, mode: Mode) -> None:
    async def story(case: Case) -> None:
        space, other = await case.space(mode), await case.space(Mode.CAS)
        first = case.command(b"r", {b"a": b"1"})
        writes = [
            Write(space, first),
            Write(other, case.command(b"r", (Put(b"a", b"1", condition=etag(b"x" * 16)),))),
            Write(space, case.command(b"r", {b"a": b"2", b"b": b"2"})),
            Write(space, first),
            Write(space, case.command(b"s", {b"a": b"1"}, token=case.token(-2 * HOUR_US))),
            Write(other, case.command(b"r", (Put(b"a", b"1", condition=absent()),))),
            Write(other, case.command(b"r", (Put(b"a", b"2", condition=absent()),))),
        ]
        results = await case.store.mutate(writes)
        kinds = [type(one) if isinstance(one, WellspringError) else one.outcome for one in results]
        assert kinds == [
            Outcome.APPLIED,
            ConditionFailed,
            Outcome.APPLIED,
            Outcome.REPEATED,
            ClockDrift,
            Outcome.APPLIED,
            ConditionFailed,
        ]
        assert await case.items(space, b"r") == {b"a": b"2", b"b": b"2"}
        assert await case.items(other, b"r") == {b"a": b"1"}
        assert len(await case.events(space)) == 2
        assert (await case.store.usage(space)).items == 2

    bench.run(story)


def test_a_quota_is_not_exceeded(bench: Bench) -> None:
    async def story(case: Case) -> None:
        space = await case.space(Mode.CAS, quota=Quota(max_bytes=1000, max_records=2))
        await case.put(space, b"a", {b"": b"x" * 400})
        with pytest.raises(QuotaExceeded) as raised:
            await case.put(space, b"b", {b"": b"x" * 600})
        assert raised.value.metadata["quota"] == "max_bytes"
        await case.put(space, b"b", {b"": b"x"})
        with pytest.raises(QuotaExceeded):
            await case.put(space, b"c", {b"": b"x"})
        await case.put(space, b"a", {b"": b"y" * 410})
        await case.delete(space, b"a")
        await case.put(space, b"c", {b"": b"x"})
        assert (await case.store.usage(space)).records == 2
        assert sorted(await case.contents(space)) == [b"b", b"c"]

    bench.run(story)


def test_a_purged_namespace_leaves_nothing(bench: Bench) -> None:
    async def story(case: Case) -> None:
        space, neighbour = await case.space(Mode.LWW, "same"), await case.space(Mode.LWW, "neighbour")
        for one in (space, neighbour):
            await case.put(one, b"r", (Put(b"a", b"1", expire_us=case.clock() + HOUR_US), Put(b"", b"2")))
            await case.delete(one, b"r", keys(b"a"))
        await case.store.purge_namespace(space)
        assert await case.store.namespaces() == [neighbour]
        await case.reopen()
        again = await case.space(Mode.LWW, "same")
        assert again.number not in (space.number, neighbour.number)
        assert await case.contents(again) == {} and await case.events(again) == []
        assert (await case.store.usage(again))[:3] == (0, 0, 0)
        await case.pass_time(48 * HOUR_US)
        assert await case.contents(neighbour) == {b"r": {b"": b"2"}}
        (gone,) = await case.store.mutate([Write(space, case.command(b"r", {b"": b"ghost"}))])
        assert isinstance(gone, WellspringError)

    bench.run(story)


def test_a_wide_delete_is_bounded_and_counts_right(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_DELETED", 50)

    async def story(case: Case) -> None:
        space = await case.space(Mode.CAS)
        await case.put(space, b"r", {b"%02d" % number: b"x" * (number * 100) for number in range(60)})
        for selection in (ALL, between(b"00", b"51")):
            with pytest.raises(DeleteTooLarge):
                await case.delete(space, b"r", selection)
        assert (await case.delete(space, b"r", between(b"00", b"50"))).deleted_items == 50
        usage = await case.store.usage(space)
        assert usage.items == 10 and usage.size_bytes > 10 * 5000
        await case.delete(space, b"r")
        assert (await case.store.usage(space))[:3] == (0, 0, 0)

    bench.run(story)
