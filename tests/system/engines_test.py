"""Storage, session and propagation as real processes behind each server engine: one suite through the SDK for both."""

import datetime
import itertools
import random
import time

import pytest

import wellspring_client
from tests.system.served import SERVICES, three_services
from wellspring.propagation.v1 import propagation_pb2, work_pb2
from wellspring.storage.v1 import storage_pb2
from wellspring_client import Delete, Put, packed

VIEW = "page"
WAIT_S = 60
SOON = datetime.timedelta(seconds=1)


@pytest.fixture(scope="module", params=["grpcio", "native"])
def site(request, tmp_path_factory):
    """The three services behind one engine."""
    with three_services(tmp_path_factory.mktemp(request.param), request.param) as site:
        yield site


@pytest.fixture
def client(site):
    addresses = {service: served.address for service, served in site.items()}
    with wellspring_client.connect(**addresses, timeout=WAIT_S) as client:
        yield client


@pytest.fixture
def notes(client, request):
    """A fresh CAS namespace."""
    name = f"cas-{time.time_ns()}"
    client.storage.create_namespace(name, mode="CAS")
    return client.storage.namespace(name)


def new_version():
    return time.time_ns().to_bytes(16, "big")


# Storage


def test_namespaces_come_and_go(client):
    name = f"n-{time.time_ns()}"
    made = client.storage.create_namespace(name, mode="LWW", description="first")
    assert client.storage.create_namespace(name, mode="LWW", description="first") == made
    with pytest.raises(wellspring_client.AlreadyExists) as error:
        client.storage.create_namespace(name, mode="CAS")
    assert error.value.reason == "NAMESPACE_EXISTS"
    made.description = "second"
    assert client.storage.update_namespace(made, "description").description == "second"
    assert name in {one.name for one in client.storage.list_namespaces()}
    client.storage.delete_namespace(name)
    with pytest.raises(wellspring_client.WellspringError) as error:
        client.storage.namespace(name).get("a")
    assert error.value.reason == "NAMESPACE_DELETED"
    client.storage.undelete_namespace(name)
    assert client.storage.namespace(name).get("a") is None


def test_writes_hold_their_conditions_and_repeat_by_token(notes):
    token = notes.new_token()
    first = notes.put("monday", b"water", if_absent=True, token=token)
    again = notes.put("monday", b"water", if_absent=True, token=token)
    assert again.outcome == storage_pb2.OUTCOME_REPEATED and again.version == first.version
    with pytest.raises(wellspring_client.TokenReused):
        notes.put("monday", b"other", if_absent=True, token=token)
    with pytest.raises(wellspring_client.ConditionFailed) as error:
        notes.put("monday", b"twice", if_etag="00" * 16)
    assert error.value.etag == first.etag
    second = notes.put("monday", b"twice", if_etag=first.etag)
    found = notes.get("monday", cookie=second.cookie)
    assert (found.value, found.etag) == (b"twice", second.etag)
    notes.mutate("monday", [Put(b"1", key="a"), Put(b"2", key="b"), Delete(keys=[""])], if_record_etag=second.etag)
    assert [item.key for item in notes.items("monday")] == [b"a", b"b"]
    assert notes.delete("monday").deleted_items == 2
    with pytest.raises(wellspring_client.NotFound):
        notes.delete("monday")


def test_batches_scans_and_pages_bring_everything_once(notes):
    outcomes = notes.put_many((f"r{n:04d}", Put(b"%d" % n, if_absent=n % 7 == 0)) for n in range(1_500))
    assert not [one for one in outcomes if isinstance(one, wellspring_client.WellspringError)]
    outcomes = notes.put_many([("r0007", Put(b"x", if_absent=True)), ("r0008", b"y")])
    assert isinstance(outcomes[0], wellspring_client.ConditionFailed) and outcomes[1].version
    found = notes.get_many(["r0007", "absent", "r0008"])
    assert [one and one.value for one in found] == [b"7", None, b"y"]
    assert [record.key for page in [list(notes.scan(prefix="r00"))] for record in page] == [
        b"r%04d" % n for n in range(100)
    ]
    ranges = notes.split(4)
    shares = [[record.key for record in notes.scan(ranges=[one])] for one in ranges]
    assert sorted(itertools.chain(*shares)) == [b"r%04d" % n for n in range(1_500)]
    notes.mutate("wide", [Put(b"v", key=f"k{n:05d}") for n in range(900)])
    notes.mutate("wide", [Put(b"v", key=f"k{n:05d}") for n in range(900, 1_800)])
    assert [item.key for item in notes.items("wide")] == [b"k%05d" % n for n in range(1_800)]


def test_columns_are_put_refused_and_repeated_one_by_one(notes):
    values = {b"r%04d" % n: b"%d" % n for n in range(2_500)}
    token = notes.new_token()
    put = notes.put_columns(values, key="c", if_absent=True, token=token)
    assert list(put.outcomes) == list(values) and {*put.outcomes.values()} == {storage_pb2.OUTCOME_APPLIED}
    assert notes.get("r2499", key="c", cookie=put.cookie).value == b"2499"
    again = notes.put_columns(values, key="c", if_absent=True, token=token)
    assert {*again.outcomes.values()} == {storage_pb2.OUTCOME_REPEATED}
    mixed = notes.put_columns({b"r0001": b"x", b"new": b"y", b"": b"z"}, key="c", if_absent=True).outcomes
    assert isinstance(mixed[b"r0001"], wellspring_client.ConditionFailed) and mixed[b"new"] == 1
    assert isinstance(mixed[b""], wellspring_client.InvalidRequest)
    assert notes.put_columns({}).outcomes == {}


def test_messages_of_megabytes_and_streams_both_ways(notes):
    values = [random.Random(n).randbytes(1 << 20) for n in range(3)]
    for number, value in enumerate(values):
        notes.put("wide", value, key=str(number))
    request = storage_pb2.GetRequest(record=b"wide", limits=storage_pb2.ReadLimits(max_bytes=4 << 20))
    assert [item.value for item in notes.read(request).items] == values
    with pytest.raises(wellspring_client.ValueTooLarge):
        notes.put("big", bytes((1 << 20) + 1))
    content = b"".join(values)
    notes.upload("big", values, crc32c(content))
    answers = list(notes.download("big"))
    assert b"".join(answer.chunk for answer in answers) == content
    assert answers[-1].crc32c == crc32c(content)
    with pytest.raises(wellspring_client.WellspringError) as error:
        notes.upload("other", values, 1)
    assert error.value.reason == "CHECKSUM_MISMATCH"


def crc32c(content):
    """CRC-32C (RFC 3720, appendix B.4), by the table of its reflected polynomial."""
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    crc = 0xFFFFFFFF
    for byte in content:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def events_of(answers, count):
    """(record, version) of the next ``count`` events, and the resume token behind them."""
    found, token = [], ""
    for answer in answers:
        found += [(event.record, event.version) for event in answer.events]
        token = answer.resume_token
        if len(found) >= count:
            return found, token
    raise AssertionError("the feed ended")


def test_a_watch_goes_on_where_its_token_says(notes):
    receipts = [notes.put(f"w{n}", b"x") for n in range(30)]
    written = [(b"w%d" % n, receipt.version) for n, receipt in enumerate(receipts)]
    first, token = events_of(notes.watch(from_beginning=True, max_events=7), 10)
    rest, token = events_of(notes.watch(resume_token=token), 30 - len(first))
    assert first + rest == written
    watching = notes.watch(resume_token=token, heartbeat=SOON)
    assert next(watching).HasField("heartbeat")
    later = notes.put("w-later", b"x")
    assert events_of(watching, 1)[0] == [(b"w-later", later.version)]
    with pytest.raises(wellspring_client.InvalidRequest):
        next(notes.watch(resume_token="forged"))


def test_errors_carry_reason_fields_and_metadata(client, notes):
    with pytest.raises(wellspring_client.NotFound) as error:
        client.storage.namespace("nowhere").get("a")
    assert error.value.reason == "NAMESPACE_NOT_FOUND" and "nowhere" in str(error.value)
    with pytest.raises(wellspring_client.InvalidRequest) as error:
        notes.get("x" * 5_000)
    assert [path for path, _ in error.value.violations] == ["record"]
    with pytest.raises(wellspring_client.InvalidRequest) as error:
        notes.put("ä" * 700, b"", key="k" * 5_000)
    assert error.value.violations
    with pytest.raises(wellspring_client.PageTokenInvalid):
        notes.read(storage_pb2.GetRequest(record=b"a", page_token="forged"))
    with pytest.raises(wellspring_client.InvalidRequest) as error:
        client.propagation.change("not a resource\n", new_version())
    assert error.value.reason == "RESOURCE_INVALID"
    with pytest.raises(wellspring_client.NotFound) as error:
        client.session.realm("nowhere").create("somebody")
    assert error.value.reason == "REALM_NOT_FOUND"


@pytest.mark.parametrize("service", SERVICES)
def test_a_hanging_server_costs_no_more_than_the_deadline(site, client, service):
    call = {
        "storage": lambda timeout: list(client.storage.list_namespaces(timeout=timeout)),
        "session": lambda timeout: list(client.session.list_realms(timeout=timeout)),
        "propagation": lambda timeout: client.propagation.admin.status(timeout=timeout),
    }[service]
    call(WAIT_S)
    site[service].process.pause()
    try:
        with pytest.raises(wellspring_client.DeadlineExceeded):
            call(0.3)
    finally:
        site[service].process.resume()
    call(WAIT_S)


# Sessions


def test_a_session_from_its_creation_to_its_end(client):
    realm = client.session.realm("web")
    subject = f"reader-{time.time_ns()}"
    minted = realm.create(subject, level=1, data={"name": b"Ada"})
    answer = realm.validate(minted.token, data_keys=["name"])
    assert answer.session.subject == minted.session.subject != subject
    assert answer.data["name"].value == b"Ada"
    realm.update_data(minted.token, wellspring_client.add_data("visits", 2))
    with pytest.raises(wellspring_client.ConditionFailed) as error:
        realm.update_data(minted.token, wellspring_client.set_data("name", b"Eve", if_version=99))
    assert error.value.reason == "VERSION_MISMATCH"
    rotated = realm.rotate(minted.token, privilege_changed=True)
    assert realm.validate(rotated.token).session.handle == answer.session.handle
    with pytest.raises(wellspring_client.SessionInvalid):
        realm.validate(minted.token)
    assert [one.handle for one in realm.list_by_subject(subject)] == [answer.session.handle]
    assert realm.revoke(subject=subject).revoked == 1
    for token in (rotated.token, minted.token):
        with pytest.raises(wellspring_client.SessionInvalid):
            realm.validate(token)
    with pytest.raises(wellspring_client.InvalidRequest) as error:
        realm.validate("no token at all")
    assert error.value.reason == "TOKEN_MALFORMED"


# Propagation


def lease(client, items=100, wait=10):
    request = work_pb2.LeaseRequest(executor="test", capacity=[work_pb2.LeaseRequest.Capacity(view=VIEW, items=items)])
    request.wait.FromSeconds(wait)
    return list(client.propagation.work.lease(request).batches)


def complete(client, *completions):
    answer = client.propagation.work.complete(work_pb2.CompleteRequest(completions=completions))
    return answer.results


def done(batch, content):
    ids = packed.decode_ids(batch.ids)
    return work_pb2.Completion(
        lease_id=batch.lease_id,
        fencing=batch.fencing,
        done=batch.ids,
        hashes=packed.encode_hashes([content.ljust(16)] * len(ids)),
    )


def test_a_change_reaches_every_dependent(client):
    resource = f"template/{time.time_ns()}"
    pages = [f"page/{resource[9:]}-{n}" for n in range(250)]
    assert client.propagation.declare(VIEW, {page: [resource, (resource, "links")] for page in pages}) == 500
    assert client.propagation.count_dependents(resource).total == 250
    assert client.propagation.estimate(resource).views[0].dependents == 250
    assert sorted(name for _, name in client.propagation.dependents(resource)) == sorted(pages)
    change_id, version = f"c-{resource}", new_version()
    first = client.propagation.change(resource, version, id=change_id)
    assert client.propagation.change(resource, version, id=change_id).repeated_id
    named, old = [], None
    while sum(map(len, named)) < 250:
        for batch in lease(client):
            named.append(packed.decode_names(batch.names))
            assert [one.version for root in batch.roots for one in root.inputs] == [version]
            assert complete(client, done(batch, b"one"))[0].accepted == len(named[-1])
            old = batch
    assert sorted(itertools.chain(*named)) == sorted(pages)
    last = list(client.propagation.watch_change(change_id))[-1]
    assert (last.state, last.progress.done) == (propagation_pb2.Root.STATE_DONE, 250)
    assert client.propagation.await_visible(first.visibility_token, pages[0], VIEW).visible
    assert not client.propagation.explain(pages[0], VIEW).pending
    stale = work_pb2.Completion(lease_id=old.lease_id + 1_000, fencing=old.fencing)
    assert complete(client, stale)[0].status.code == wellspring_client.Aborted.code
    client.propagation.change(resource, new_version(), id=f"d-{resource}")
    feed = client.propagation.watch_changes(from_beginning=True)
    assert change_id in published(feed, f"d-{resource}")


def published(feed, last):
    """The ids of the changes up to ``last``."""
    found = []
    for answer in feed:
        found += [event.change.id for event in answer.events]
        if last in found:
            return found
    raise AssertionError("the feed ended")


def test_what_fails_is_a_dead_letter_until_it_is_replayed(client):
    for batch in iter(lambda: next(iter(lease(client, wait=0)), None), None):
        complete(client, done(batch, b"two"))
    resource = f"template/{time.time_ns()}"
    page = f"page/dead-{time.time_ns()}"
    client.propagation.declare(VIEW, {page: [resource]})
    client.propagation.change(resource, new_version())
    while not [letter for letter in client.propagation.admin.dead_letters(view=VIEW) if letter.resource == page]:
        for batch in lease(client):
            failure = work_pb2.Failure(
                id=int(packed.decode_ids(batch.ids)[0]), reason="RENDER_FAILED", detail="no", retryable=True
            )
            fenced = work_pb2.Completion(lease_id=batch.lease_id, fencing=batch.fencing, failures=[failure])
            assert complete(client, fenced)[0].status.code == 0
    assert client.propagation.admin.replay_dead_letters(view=VIEW, resource_prefix=page) == 1
    (batch,) = lease(client)
    assert packed.decode_names(batch.names) == [page]
    assert complete(client, done(batch, b"three"))[0].accepted == 1


def test_a_lease_without_work_is_answered_when_its_wait_is_over(client):
    while batches := lease(client, wait=0):
        for batch in batches:
            complete(client, done(batch, b"rest"))
    assert lease(client, wait=1) == []
