"""The SDK's sessions and propagation against a real gRPC server: what it sends, and what it makes of the answers."""

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

import wellspring_client
from wellspring.propagation.v1 import propagation_admin_pb2, propagation_pb2, work_pb2
from wellspring.session.v1 import session_pb2
from wellspring_client import packed
from wellspring_client.fakes_test import Fail, Server, status

SESSIONS = [session_pb2.DESCRIPTOR.services_by_name["Sessions"]]
PROPAGATION = [
    propagation_pb2.DESCRIPTOR.services_by_name["Propagation"],
    work_pb2.DESCRIPTOR.services_by_name["PropagationWork"],
    propagation_admin_pb2.DESCRIPTOR.services_by_name["PropagationAdmin"],
]


def test_a_session_s_token_is_never_printed():
    async def create(request, context):
        assert request.assurance.level == 2 and request.assurance.auth_time.seconds > 0 and request.request_id
        session = session_pb2.Session(realm=request.realm, handle="h1")
        return session_pb2.CreateResponse(token=session_pb2.Secret(value=b"wss_wiki_id.canary"), session=session)

    async def validate(request, context):
        if request.token.value != b"wss_wiki_id.canary":
            raise Fail(16, "SESSION_INVALID")
        return session_pb2.ValidateResponse(session=session_pb2.Session(handle="h1"))

    async def revoke(request, context):
        return session_pb2.RevokeResponse(revoked=1)

    async def rotate(request, context):
        until = Timestamp(seconds=1_700_000_000)
        return session_pb2.RotateResponse(token=session_pb2.Secret(value=b"new"), grace_until=until)

    methods = {
        "Sessions/Create": create,
        "Sessions/Validate": validate,
        "Sessions/Revoke": revoke,
        "Sessions/Rotate": rotate,
    }
    with Server(methods, SESSIONS) as server, wellspring_client.connect(session=server.address) as client:
        realm = client.session.realm("wiki")
        minted = realm.create("alice", level=2, methods=["pwd", "otp"])
        assert minted.token.value == "wss_wiki_id.canary" and minted.session.handle == "h1"
        assert "canary" not in f"{minted} {minted!r} {minted.token} {minted.token!r}"
        assert realm.validate(minted.token).session.handle == "h1"
        assert realm.validate(minted.token.value).session.handle == "h1"
        with pytest.raises(wellspring_client.SessionInvalid):
            realm.validate("forged")
        rotated = realm.rotate(minted.token)
        assert rotated.token == wellspring_client.Token("new") and rotated.grace_until.year == 2023
        assert realm.revoke(subject="alice").revoked == 1
        for wrong in ({}, {"handle": "h", "subject": "s"}):
            with pytest.raises(ValueError, match="exactly one"):
                realm.revoke(**wrong)


def test_propagation_speaks_packed():
    async def publish(request, context):
        answer = propagation_pb2.PublishChangesResponse()
        for change in request.changes:
            result = answer.results.add(root=change.id)
            if change.resource == "":
                result.status.CopyFrom(status(3, "RESOURCE_INVALID"))
        return answer

    async def declare(request, context):
        (declared,) = request.packed
        dependents = packed.decode_names(declared.dependents)
        inputs = packed.decode_names(declared.inputs, tab_allowed=True)
        counts, index = (
            packed.decode_counts(declared.counts).tolist(),
            packed.decode_counts(declared.input_index).tolist(),
        )
        assert len(counts) == len(dependents) and sum(counts) == len(index)
        for dependent, count in zip(dependents, counts, strict=True):
            edges[dependent] = {inputs[index.pop(0)] for _ in range(count)}
        return propagation_pb2.DeclareDependenciesResponse(edges_added=sum(counts))

    async def dependents(request, context):
        start = int(request.resume_token or 0)
        yield propagation_pb2.ListDependentsResponse(view="html", names=b"a\0b", resume_token="1")
        if not start:
            raise Fail(14, "SERVER_DRAINING", retry_s=0.001)

    async def watch(request, context):
        for done in range(3):
            root = propagation_pb2.Root(progress=propagation_pb2.Progress(total=2, done=done))
            root.state = propagation_pb2.Root.STATE_DONE if done == 2 else propagation_pb2.Root.STATE_ACTIVE
            yield propagation_pb2.WatchChangeResponse(root=root)

    async def lease(request, context):
        return work_pb2.LeaseResponse(batches=[work_pb2.Batch(lease_id=7)])

    edges = {}
    methods = {
        "Propagation/PublishChanges": publish,
        "Propagation/DeclareDependencies": declare,
        "Propagation/ListDependents": dependents,
        "Propagation/WatchChange": watch,
        "PropagationWork/Lease": lease,
    }
    with Server(methods, PROPAGATION) as server, wellspring_client.connect(propagation=server.address) as client:
        propagation = client.propagation
        result = propagation.change("enwiki/page/A", b"\0" * 16, id="edit-1")
        assert result.root == "edit-1"
        with pytest.raises(wellspring_client.InvalidRequest):
            propagation.change("", b"\0" * 16)
        declared = {"A": ["T", ("B", "existence"), "T"], "B": [], "C": [("T", "content")]}
        assert propagation.declare("html", declared) == 3
        assert edges == {"A": {"T", "B\texistence"}, "B": set(), "C": {"T"}}
        twice = [("X", ["1"]), ("X", ["2"])]
        propagation.declare("html", twice)
        assert len(server.calls["Propagation/DeclareDependencies"]) == 3, "a name is in one piece once"
        with pytest.raises(ValueError, match="control"):
            propagation.declare("html", {"A": ["a\tb"]})
        assert list(propagation.dependents("T")) == [("html", "a"), ("html", "b")] * 2
        assert [root.progress.done for root in propagation.watch_change("edit-1", interval_s=0.1)] == [0, 1, 2]
        request = work_pb2.LeaseRequest(executor="e")
        request.wait.seconds = 20
        assert propagation.work.lease(request).batches[0].lease_id == 7
        assert 20 < server.remaining_s < 26


def test_operators_list_outputs_and_costs_and_render_again():
    async def rerender(request, context):
        names = packed.decode_names(request.names)
        asked.append((request.id, request.view, names, request.publish_unchanged, request.reason))
        return propagation_admin_pb2.RerenderResponse(root=request.id, pages=len(names) or 9, unknown=["x"])

    async def outputs(request, context):
        first = not request.page_token
        return propagation_admin_pb2.ListOutputsResponse(
            names=b"a\0b" if first else b"c",
            hashes=b"h" * (32 if first else 16),
            versions=b"v" * (32 if first else 16),
            states=b"\0\3" if first else b"\5",
            next_page_token="next" if first else "",
        )

    async def costs(request, context):
        causers = propagation_admin_pb2.ListCostsResponse.Causer
        if request.page_token:
            return propagation_admin_pb2.ListCostsResponse(causers=[causers(causer="bob")])
        return propagation_admin_pb2.ListCostsResponse(causers=[causers(causer="ann")], next_page_token="next")

    asked = []
    methods = {
        "PropagationAdmin/Rerender": rerender,
        "PropagationAdmin/ListOutputs": outputs,
        "PropagationAdmin/ListCosts": costs,
    }
    with Server(methods, PROPAGATION) as server, wellspring_client.connect(propagation=server.address) as client:
        admin = client.propagation.admin
        assert admin.rerender("html", ["a", "b"], id="r", publish_unchanged=True, reason="why").pages == 2
        assert admin.rerender("html").pages == 9
        assert asked[0] == ("r", "html", ["a", "b"], True, "why")
        assert asked[1][0] and asked[1][2] == []
        for wrong in ([], ["a"] * 100_001):
            with pytest.raises(ValueError, match="allowed"):
                admin.rerender("html", wrong)
        found = list(admin.outputs("html"))
        assert [one.resource for one in found] == ["a", "b", "c"]
        assert found[0] == wellspring_client.Output("a", b"h" * 16, b"v" * 16, False, False, False)
        assert [(one.pending, one.dead_letter, one.retrying) for one in found[1:]] == [
            (True, True, False),
            (True, False, True),
        ]
        assert [one.causer for one in admin.costs()] == ["ann", "bob"]
