"""Re-renders, listed outputs, costs and the stream of outputs, as callers see them."""

import asyncio

import grpc
import numpy as np
import pytest

from services.propagation.domain import listing
from services.propagation.simulation.calls import (
    change,
    complete,
    declare,
    done,
    lease,
    pages,
    path_of,
    publish,
    reason_of,
    refused,
)
from services.propagation.simulation.serving import Served, served
from services.propagation.store.memory_state import MemoryDisk
from wellspring.propagation.v1 import propagation_admin_pb2 as admin_pb2
from wellspring.propagation.v1 import propagation_pb2 as pb
from wellspring.propagation.v1 import work_pb2
from wellspring_client import packed


async def rendered(site: Served, count: int = 5) -> None:
    """So many pages, rendered for one change by ann."""
    await declare(site, count)
    await publish(site, change(cause=pb.Cause(kind="edit", causer="ann")))
    for batch in await lease(site):
        await complete(site, done(batch, renderer_seconds=2.0))


async def listed(site: Served, size: int, view: str = "html") -> list[tuple[str, bytes, bytes, int]]:
    """(name, hash, version, state) of every output, page by page."""
    found, request = [], admin_pb2.ListOutputsRequest(view=view, page_size=size)
    while True:
        answer = await site.admin.ListOutputs(request)
        names = packed.decode_names(answer.names)
        assert len(names) <= size and len(answer.hashes) == len(answer.versions) == 16 * len(names)
        for at, name in enumerate(names):
            part = slice(16 * at, 16 * at + 16)
            found.append((name, answer.hashes[part], answer.versions[part], answer.states[at]))
        if not answer.next_page_token:
            return found
        request.page_token = answer.next_page_token


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_outputs_are_listed_with_hash_version_and_state(size):
    async def main():
        async with served() as site:
            assert await listed(site, size) == []
            await declare(site, 5)
            assert await listed(site, size) == []  # declared, and neither rendered nor wanted
            await rendered(site)
            await publish(site, change("again", version=2))
            (batch,) = await lease(site, items=3)
            ids = packed.decode_ids(batch.ids)
            failures = [
                work_pb2.Failure(id=ids[0], reason="GONE"),
                work_pb2.Failure(id=ids[1], reason="BUSY", retryable=True),
            ]
            hashes = np.full(1, 7, "<u8").repeat(2).tobytes()
            report = work_pb2.Completion(
                lease_id=batch.lease_id,
                fencing=batch.fencing,
                done=packed.encode_ids(ids[2:]),
                hashes=hashes,
                failures=failures,
            )
            await complete(site, report)
            found = await listed(site, size)
            assert [name for name, _, _, _ in found] == pages(5)
            assert [state & ~4 for _, _, _, state in found] == [2, 1, 0, 1, 1]
            assert found[2][1] == hashes and found[2][2] == batch.rendered_version
            assert len({version for _, _, version, _ in found}) == 2

    asyncio.run(main())


def test_a_page_of_long_names_is_cut_to_fit_a_message(monkeypatch):
    monkeypatch.setattr(listing, "MOST_NAME_BYTES", 40)

    async def main():
        async with served() as site:
            await rendered(site, 20)
            assert [name for name, _, _, _ in await listed(site, 1000)] == pages(20)
            request = pb.ListDependentsRequest(resource="w/template/a", page_size=1000)
            answers = [answer async for answer in site.propagation.ListDependents(request)]
            assert len(answers) > 5
            assert [name for one in answers for name in packed.decode_names(one.names)] == pages(20)
            rest = pb.ListDependentsRequest(resource="w/template/a", resume_token=answers[2].resume_token)
            resumed = [one async for one in site.propagation.ListDependents(rest)]
            assert [one.names for one in resumed] == [one.names for one in answers[3:]]

    asyncio.run(main())


def test_a_rerender_over_a_restart():
    async def main():
        disk = MemoryDisk()
        request = admin_pb2.RerenderRequest(
            id="r", view="html", names=packed.encode_names([*pages(2), "w/other"]), publish_unchanged=True, reason="why"
        )
        async with served(disk) as site:
            await rendered(site)
            answer = await site.admin.Rerender(request)
            assert (answer.root, answer.pages, list(answer.unknown)) == ("r", 2, ["w/other"])
        async with served(disk) as site:
            assert await site.admin.Rerender(request) == answer
            (batch,) = await lease(site)
            assert packed.decode_names(batch.names) == pages(2) and batch.accepted_hashes == bytes(32)
            (result,) = await complete(site, done(batch))
            assert (result.accepted, result.unchanged) == (2, 0)
            root = await site.propagation.GetChange(pb.GetChangeRequest(id="r"))
            assert root.state == pb.Root.STATE_DONE and root.progress.changed == 2
            assert root.change.attributes["reason"] == "why"
            explained = await site.propagation.Explain(pb.ExplainRequest(resource=pages(1)[0], view="html"))
            assert explained.steps[0].root.id == "r"
            whole = await site.admin.Rerender(admin_pb2.RerenderRequest(id="all", view="html"))
            assert whole.pages == 5

    asyncio.run(main())


@pytest.mark.parametrize(
    ("request_", "path", "expected"),
    [
        (admin_pb2.RerenderRequest(view="html"), "id", "CHANGE_ID_INVALID"),
        (admin_pb2.RerenderRequest(id="r", view="none"), "", "VIEW_NOT_FOUND"),
        (admin_pb2.RerenderRequest(id="r", view="html", names=b"a\0\0b"), "names[1]", "RESOURCE_INVALID"),
        (admin_pb2.RerenderRequest(id="r", view="html", names=b"\0".join([b"w"] * 100_001)), "names", ""),
        (admin_pb2.RerenderRequest(id="r", view="html", lane="No Lane"), "lane", ""),
        (admin_pb2.RerenderRequest(id="r", view="html", reason="x" * 2000), "reason", ""),
        (admin_pb2.RerenderRequest(id="c", view="html"), "", "CHANGE_ID_REUSED"),
    ],
)
def test_wrong_rerenders_begin_nothing(request_, path, expected):
    async def main():
        async with served() as site:
            await rendered(site)
            error = await refused(site.admin.Rerender(request_))
            assert reason_of(error) == (expected or "INVALID_ARGUMENT")
            assert path in (error.details() or "")
            assert not site.engine.shard.roots

    asyncio.run(main())


def test_costs_by_causer_in_pages():
    async def main():
        async with served() as site:
            await rendered(site)
            for at, causer in enumerate(["bob", "", "carol"], start=2):
                await publish(site, change(f"c{at}", version=at, cause=pb.Cause(causer=causer)))
                for batch in await lease(site):
                    await complete(site, done(batch, renderer_seconds=float(at - 1)))
            request, found = admin_pb2.ListCostsRequest(page_size=1), []
            while True:
                answer = await site.admin.ListCosts(request)
                found += answer.causers
                if not answer.next_page_token:
                    break
                request.page_token = answer.next_page_token
            assert [(one.causer, one.renderer_seconds) for one in found] == [
                ("carol", 3.0),
                ("", 2.0),
                ("ann", 2.0),
                ("bob", 1.0),
            ] or [one.causer for one in found] == ["carol", "ann", "", "bob"]
            assert all((one.roots, one.rendered) == (1, 5) for one in found)
            error = await refused(site.admin.ListCosts(admin_pb2.ListCostsRequest(page_size=-1)))
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT

    asyncio.run(main())


def test_outputs_are_streamed_beside_changes_and_resumed():
    async def main():
        async with served() as site:
            await rendered(site, 3)
            request = pb.WatchChangesRequest(from_beginning=True, include_outputs=True)
            stream = site.propagation.WatchChanges(request)
            answer = await stream.read()
            assert [one.change.resource for one in answer.events] == [
                "w/template/a",
                *(f"view/html/{page}" for page in pages(3)),
            ]
            assert all(len(one.output_hash) == 16 for one in answer.events[1:])
            stream.cancel()
            request = pb.WatchChangesRequest(resume_token=answer.resume_token, include_outputs=True)
            stream = site.propagation.WatchChanges(request)
            reading = asyncio.create_task(stream.read())
            await publish(site, change("later", version=2))
            assert [one.change.id for one in (await reading).events] == ["later"]
            stream.cancel()
            wrong = site.propagation.WatchChanges(pb.WatchChangesRequest(resume_token="x"))
            assert reason_of(await refused(wrong.read())) == "PAGE_TOKEN_INVALID"

    asyncio.run(main())


def test_n26_what_a_change_says_beside_its_fields_survives_and_a_bad_one_is_refused_by_its_field():
    async def main():
        async with served() as site:
            said = {"wiki": "en", "comment": "ö\n\t", "empty": ""}
            known = change("c", attributes=said)
            later = b"\xba\x3e\x05later"  # field 999, of a later release
            extra = pb.Change.FromString(known.SerializeToString() + later)
            (result,) = await publish(site, extra)
            assert not result.status.code
            root = await site.propagation.GetChange(pb.GetChangeRequest(id="c"))
            assert dict(root.change.attributes) == said and later in root.change.SerializeToString()
            stream = site.propagation.WatchChanges(pb.WatchChangesRequest(from_beginning=True))
            told = (await stream.read()).events[0].change
            assert dict(told.attributes) == said and later in told.SerializeToString()
            stream.cancel()
            bad, good = await publish(site, change("d", version=2, aspects=["content", "No!"]), change("e", version=3))
            assert path_of(bad.status) == "changes[0].aspects[1]" and not good.status.code
            much = pb.Change.FromString(change("f").SerializeToString() + b"\xba\x3e\x89\x27" + bytes(5001))
            (bad,) = await publish(site, much)
            assert path_of(bad.status) == "changes[0]"

    asyncio.run(main())


@pytest.mark.parametrize(("names", "versions"), [(b"page/1", b"short"), (b"page/1\0page/2", bytes(16))])
def test_versions_of_pages_that_are_gone_are_whole_and_one_for_each_name(names, versions):
    async def main():
        async with served() as site:
            request = admin_pb2.RerenderRequest(
                id="gone", view="html", names=names, publish_unchanged=True, gone_versions=versions
            )
            error = await refused(site.admin.Rerender(request))
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "gone_versions" in (error.details() or "")

    asyncio.run(main())
