"""Namespaces over gRPC: made, listed, changed, ended; quotas and callers; bad settings."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from services.storage.domain.namespace import Caller, Deployment, Quota
from services.storage.rig import Rig, create, item, mutate, play, put, refusal, token
from wellspring.storage.v1 import storage_admin_pb2 as admin_pb
from wellspring.storage.v1 import storage_pb2 as pb

INVALID = grpc.StatusCode.INVALID_ARGUMENT
Bind = admin_pb.Binding


def get(name: str) -> admin_pb.GetNamespaceRequest:
    return admin_pb.GetNamespaceRequest(name=name)


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Waits until it holds; the test's own time limit is the only one."""
    for _ in range(10_000):
        if await holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came to hold")


async def gone(rig: Rig, name: str) -> bool:
    """Whether a namespace is no longer listed."""
    listed = await rig.admin.ListNamespaces(admin_pb.ListNamespacesRequest(show_deleting=True))
    return name not in [one.name for one in listed.namespaces]


def test_a_namespace_lives_and_dies() -> None:
    async def story(rig: Rig) -> None:
        made = await create(rig, "team", labels={"a": "b"}, description="d", quota=admin_pb.Quota(max_bytes=10_000))
        assert made.state == admin_pb.Namespace.STATE_READY and made.create_time.seconds > 0 and made.etag
        assert made.max_clock_drift.seconds == 60 and made.retention.feed_window.seconds == 7 * 86_400
        again = await create(rig, "team", labels={"a": "b"}, description="d", quota=admin_pb.Quota(max_bytes=10_000))
        assert again == made == await rig.admin.GetNamespace(get("team"))
        # What a namespace says of itself makes the same one.
        assert await rig.admin.CreateNamespace(admin_pb.CreateNamespaceRequest(namespace=made)) == made
        refused = await refusal(create(rig, "team", labels={"a": "c"}))
        assert (refused.code, refused.reason) == (grpc.StatusCode.ALREADY_EXISTS, "NAMESPACE_EXISTS")
        await rig.storage.Put(put(b"r", namespace="team"))
        ending = await rig.admin.DeleteNamespace(admin_pb.DeleteNamespaceRequest(name="team", etag=made.etag))
        assert ending.state == admin_pb.Namespace.STATE_DELETING
        assert 6 * 86_400 < ending.purge_time.seconds - made.create_time.seconds < 8 * 86_400
        for call in (
            rig.storage.Put(put(b"r", namespace="team")),
            rig.storage.Get(pb.GetRequest(namespace="team", record=b"r")),
            create(rig, "team"),
            rig.admin.UpdateNamespace(admin_pb.UpdateNamespaceRequest(namespace=made)),
        ):
            refused = await refusal(call)
            assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NAMESPACE_DELETED")
        back = await rig.admin.UndeleteNamespace(admin_pb.UndeleteNamespaceRequest(name="team"))
        assert back.state == admin_pb.Namespace.STATE_READY and not back.HasField("purge_time")
        assert (await rig.storage.Get(pb.GetRequest(namespace="team", record=b"r"))).found
        refused = await refusal(rig.admin.UndeleteNamespace(admin_pb.UndeleteNamespaceRequest(name="team")))
        assert refused.reason == "NAMESPACE_NOT_DELETED"
        await rig.admin.DeleteNamespace(admin_pb.DeleteNamespaceRequest(name="team", grace=Duration()))
        await until(lambda: gone(rig, "team"))
        assert (await refusal(rig.admin.GetNamespace(get("team")))).reason == "NAMESPACE_NOT_FOUND"
        anew = await create(rig, "team")
        assert anew.etag != made.etag
        assert not (await rig.storage.Get(pb.GetRequest(namespace="team", record=b"r"))).found

    play(story, sweep_interval_s=0.01)


def test_listing_pages_and_filters() -> None:
    async def story(rig: Rig) -> None:
        for number in range(5):
            await create(rig, f"n{number}", binding=Bind(resource_prefix="x") if number % 2 else None)
        await rig.admin.DeleteNamespace(admin_pb.DeleteNamespaceRequest(name="n4"))

        async def names(**rest: Any) -> list[str]:
            request, found = admin_pb.ListNamespacesRequest(page_size=2, **rest), []
            while True:
                page = await rig.admin.ListNamespaces(request)
                assert len(page.namespaces) <= 2
                found += [one.name for one in page.namespaces]
                request.page_token = page.next_page_token
                if not request.page_token:
                    return found

        assert await names() == ["cas", "lww", "n0", "n1", "n2", "n3"]
        assert await names(show_deleting=True) == ["cas", "lww", "n0", "n1", "n2", "n3", "n4"]
        assert await names(bound_only=True) == ["n1", "n3"]
        page = await rig.admin.ListNamespaces(admin_pb.ListNamespacesRequest(page_size=1))
        other = admin_pb.ListNamespacesRequest(bound_only=True, page_token=page.next_page_token)
        assert (await refusal(rig.admin.ListNamespaces(other))).reason == "PAGE_TOKEN_INVALID"

    play(story)


def test_settings_change_by_mask_and_etag() -> None:
    async def story(rig: Rig) -> None:
        made = await create(rig, "team", description="old", labels={"a": "b"})

        async def update(*paths: str, **settings: Any) -> Any:
            request = admin_pb.UpdateNamespaceRequest(
                namespace=admin_pb.Namespace(name="team", **settings), update_mask=FieldMask(paths=paths)
            )
            return await rig.admin.UpdateNamespace(request)

        one = await update("description", description="new", labels={"x": "y"})
        assert (one.description, dict(one.labels)) == ("new", {"a": "b"}) and one.etag != made.etag
        refused = await refusal(update("description", etag=made.etag))
        assert (refused.code, refused.reason) == (grpc.StatusCode.ABORTED, "NAMESPACE_CHANGED")
        assert refused.metadata["etag"] == one.etag
        two = await update("description", "labels", "binding", etag=one.etag, binding=Bind(resource_prefix="p"))
        assert not two.description and not two.labels and two.binding.resource_prefix == "p"
        three = await update("retention.max_versions", retention=admin_pb.Retention(max_versions=2))
        assert three.retention.max_versions == 2 and three.retention.feed_window.seconds == 7 * 86_400
        four = await update(quota=admin_pb.Quota(max_records=1))
        assert four.quota.max_records == 1 and four.binding.resource_prefix == "p"
        await rig.storage.Put(put(b"a", namespace="team"))
        refused = await refusal(rig.storage.Put(put(b"b", namespace="team")))
        assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED")
        assert (await refusal(update("mode", mode=admin_pb.MODE_CAS))).fields == ("namespace.mode",)
        assert (await refusal(update("nonsense"))).fields == ("update_mask",)
        assert (await update()).etag == four.etag

    play(story)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"name": ""}, "namespace.name"),
    ({"name": "1a"}, "namespace.name"),
    ({"name": "a" * 65}, "namespace.name"),
    ({"name": "ä"}, "namespace.name"),
    ({"mode": 0}, "namespace.mode"),
    ({"mode": 9}, "namespace.mode"),
    ({"default_consistency": 9}, "consistency"),
    ({"placement": admin_pb.Placement(datacentres=["mars"])}, "namespace.placement.datacentres[0]"),
    ({"placement": admin_pb.Placement(home_datacentre="local")}, "namespace.placement.home_datacentre"),
    ({"retention": admin_pb.Retention(max_versions=1001)}, "namespace.retention.max_versions"),
    ({"retention": admin_pb.Retention(max_versions=-1)}, "namespace.retention.max_versions"),
    ({"retention": admin_pb.Retention(default_ttl=Duration(seconds=-1))}, "namespace.retention.default_ttl"),
    ({"retention": admin_pb.Retention(feed_window=Duration(seconds=1))}, "namespace.retention.feed_window"),
    ({"quota": admin_pb.Quota(max_bytes=-1)}, "namespace.quota.max_bytes"),
    ({"callers": [admin_pb.Caller(identity="a*b", read=True)]}, "namespace.callers[0].identity"),
    ({"callers": [admin_pb.Caller(identity="a")]}, "namespace.callers[0]"),
    ({"binding": Bind()}, "namespace.binding.resource_prefix"),
    ({"binding": Bind(resource_prefix="a\n")}, "namespace.binding.resource_prefix"),
    ({"binding": Bind(resource_prefix="a", item_aspects={"k": ""})}, "namespace.binding.item_aspects['k']"),
    ({"max_clock_drift": Duration(seconds=86_400)}, "namespace.max_clock_drift"),
    ({"max_clock_drift": Duration()}, "namespace.max_clock_drift"),
    ({"description": "ä" * 600}, "namespace.description"),
    ({"labels": {"": "x"}}, "namespace.labels['']"),
]


def test_wrong_settings_name_their_fields() -> None:
    async def story(rig: Rig) -> None:
        for settings, field in WRONG:
            refused = await refusal(create(rig, **{"name": "team", **settings}))
            assert (refused.code, refused.fields) == (INVALID, (field,)), field
        both = {"description": "x" * 2000, "quota": admin_pb.Quota(max_records=-1)}
        assert len((await refusal(create(rig, "team", **both))).fields) == 2
        for name in ("", "Ä", "x" * 70):
            for call in (
                rig.admin.GetNamespace(get(name)),
                rig.admin.DeleteNamespace(admin_pb.DeleteNamespaceRequest(name=name)),
                rig.admin.GetUsage(admin_pb.GetUsageRequest(name=name)),
            ):
                assert (await refusal(call)).fields == ("name",)
        long = admin_pb.DeleteNamespaceRequest(name="lww", grace=Duration(seconds=91 * 86_400))
        assert (await refusal(rig.admin.DeleteNamespace(long))).fields == ("grace",)
        missing = admin_pb.DeleteNamespaceRequest(name="none")
        assert (await refusal(rig.admin.DeleteNamespace(missing))).code is grpc.StatusCode.NOT_FOUND
        missing.allow_missing = True
        await rig.admin.DeleteNamespace(missing)

    play(story)


def test_the_deployment_bounds_its_namespaces() -> None:
    async def story(rig: Rig) -> None:
        await create(rig, "third")
        refused = await refusal(create(rig, "fourth"))
        assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "NAMESPACES_EXHAUSTED")
        assert (await rig.admin.GetNamespace(get("third"))).quota.max_reads_per_s == 7

    play(story, deployment=Deployment(max_namespaces=3, quota=Quota(max_reads_per_s=7)))


def test_a_noisy_namespace_slows_itself_alone() -> None:
    async def story(rig: Rig) -> None:
        await create(rig, "slow", quota=admin_pb.Quota(max_writes_per_s=5, max_reads_per_s=5))
        for _ in range(5):
            await rig.storage.Put(put(b"r", namespace="slow"))
        refused = await refusal(rig.storage.Put(put(b"r", namespace="slow")))
        assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED")
        assert refused.metadata["quota"] == "max_writes_per_s"
        await rig.storage.Put(put(b"r"))
        await rig.storage.Get(pb.GetRequest(namespace="slow", record=b"r"))
        requests = [mutate(b"r", namespace="slow") for _ in range(3)]
        results = (await rig.storage.BatchMutate(pb.BatchMutateRequest(requests=requests))).results
        assert {one.status.code for one in results} <= {3, 8} and results[-1].status.code == 8
        usage = await rig.admin.GetUsage(admin_pb.GetUsageRequest(name="slow"))
        assert usage.writes_per_s > 0 and usage.exact and usage.records == 1

    play(story)


def test_requests_in_flight_are_bounded() -> None:
    async def story(rig: Rig) -> None:
        await create(rig, "narrow", quota=admin_pb.Quota(max_concurrent=1))

        async def hold() -> Any:
            yield pb.UploadRequest(
                header=pb.UploadRequest.Header(namespace="narrow", record=b"r", token=token(), item=pb.Item())
            )
            await asyncio.sleep(60)

        # A batch is one request, however many operations it has.
        requests = [mutate(b"%d" % number, item(), namespace="narrow") for number in range(50)]
        results = (await rig.storage.BatchMutate(pb.BatchMutateRequest(requests=requests))).results
        assert {one.status.code for one in results} == {0}

        async def busy() -> bool:
            try:
                await rig.storage.Get(pb.GetRequest(namespace="narrow", record=b"r"))
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.UNAVAILABLE
                return True
            return False

        async def free() -> bool:
            return not await busy()

        upload = rig.storage.Upload(hold())
        await until(busy)
        await rig.storage.Get(pb.GetRequest(namespace="lww", record=b"r"))
        upload.cancel()
        await until(free)

    play(story)


@pytest.mark.parametrize(
    ("read", "write", "reason"), [(True, False, "ACCESS_DENIED"), (False, False, "NAMESPACE_NOT_FOUND")]
)
def test_callers_of_a_namespace(read: bool, write: bool, reason: str) -> None:
    async def story(rig: Rig) -> None:
        callers = [admin_pb.Caller(identity="spiffe://a/*", read=True, write=True)]
        if read or write:
            callers.append(admin_pb.Caller(identity="anon*", read=read, write=write))
        await create(rig, "closed", callers=callers)
        assert (await refusal(rig.storage.Put(put(b"r", namespace="closed")))).reason == reason
        fetch = rig.storage.Get(pb.GetRequest(namespace="closed", record=b"r"))
        if read:
            await fetch
        else:
            assert (await refusal(fetch)).reason == "NAMESPACE_NOT_FOUND"

    play(story)
    assert Caller("a*", True, False).matches("ab") and not Caller("a", True, False).matches("ab")
