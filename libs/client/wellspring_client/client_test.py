"""The SDK against a real gRPC server: what it sends, what it makes of the answers, and what it does when there are
none.
"""

import asyncio
import datetime
import threading

import grpc
import pytest

import wellspring_client
from wellspring.storage.v1 import storage_pb2
from wellspring_client.certificates_test import make_authority
from wellspring_client.channels import target_of
from wellspring_client.fakes_test import STORAGE, Fail, FakeStorage, Server


def storage_server(**more):
    fake = FakeStorage()
    return Server(fake.methods() | more, STORAGE)


def test_the_readme_s_first_feature():
    with storage_server() as server, wellspring_client.connect(storage=server.address) as client:
        client.storage.create_namespace("notes", mode="CAS")
        notes = client.storage.namespace("notes")
        notes.put("monday", b"water the plants", content_type="text/plain")
        note = notes.get("monday")
        assert (note.value, note.content_type) == (b"water the plants", "text/plain")
        notes.put("monday", note.value + b", twice", if_etag=note.etag)
        with pytest.raises(wellspring_client.ConditionFailed) as caught:
            notes.put("monday", b"lost", if_etag=note.etag)
        assert caught.value.etag == notes.get("monday").etag
        assert notes.get("tuesday") is None
        assert [(r.key, r.value) for r in notes.scan()] == [(b"monday", b"water the plants, twice")]


def test_errors_are_typed_and_say_what_to_do():
    async def put(request, context):
        raise FAILS[request.record]

    with storage_server(**{"Storage/Put": put}) as server, wellspring_client.connect(server.address) as client:
        notes = client.storage.namespace("notes")
        for record, (kind, reason) in EXPECTED.items():
            with pytest.raises(kind) as caught:
                notes.put(record, b"")
            assert type(caught.value) is kind, record
            assert caught.value.reason == reason
        with pytest.raises(wellspring_client.InvalidRequest) as caught:
            notes.put(b"fields", b"")
        assert caught.value.violations == (("item.key", "at most 1,024 bytes are allowed"),)
        with pytest.raises(wellspring_client.QuotaExceeded) as caught:
            notes.put(b"quota", b"")
        assert caught.value.retry_after_s == 2.5


FAILS = {
    b"fields": Fail(3, "INVALID_ARGUMENT", violations=[("item.key", "at most 1,024 bytes are allowed")]),
    b"large": Fail(3, "VALUE_TOO_LARGE"),
    b"absent": Fail(5, "NAMESPACE_NOT_FOUND"),
    b"reused": Fail(6, "TOKEN_REUSED"),
    b"quota": Fail(8, "QUOTA_EXCEEDED", retry_s=2.5),
    b"mode": Fail(9, "MODE_MISMATCH"),
    b"new": Fail(10, "SOMETHING_OF_A_LATER_RELEASE"),
    b"lying": Fail(5, "CONDITION_FAILED"),
    b"fault": Fail(13, "INTERNAL"),
    b"plain": Fail(7),
}
EXPECTED = {
    b"fields": (wellspring_client.InvalidRequest, "INVALID_ARGUMENT"),
    b"large": (wellspring_client.ValueTooLarge, "VALUE_TOO_LARGE"),
    b"absent": (wellspring_client.NotFound, "NAMESPACE_NOT_FOUND"),
    b"reused": (wellspring_client.TokenReused, "TOKEN_REUSED"),
    b"quota": (wellspring_client.QuotaExceeded, "QUOTA_EXCEEDED"),
    b"mode": (wellspring_client.FailedPrecondition, "MODE_MISMATCH"),
    b"new": (wellspring_client.Aborted, "SOMETHING_OF_A_LATER_RELEASE"),
    b"lying": (wellspring_client.NotFound, "CONDITION_FAILED"),
    b"fault": (wellspring_client.ServerFault, "INTERNAL"),
    b"plain": (wellspring_client.PermissionDenied, ""),
}


def test_unavailable_is_retried_with_the_same_token_and_nothing_else_is():
    attempts = []

    async def put(request, context):
        attempts.append(request.token.SerializeToString())
        if request.record == b"quota":
            raise Fail(8, "QUOTA_EXCEEDED")
        if len(attempts) < 3:
            raise Fail(14, "OVERLOADED", pushback_ms=1)
        return storage_pb2.PutResponse(receipt=storage_pb2.Receipt(etag="done"))

    with storage_server(**{"Storage/Put": put}) as server, wellspring_client.connect(server.address) as client:
        notes = client.storage.namespace("notes")
        assert notes.put("a", b"").etag == "done"
        assert len(attempts) == 3 and len(set(attempts)) == 1
        with pytest.raises(wellspring_client.QuotaExceeded):
            notes.put("quota", b"")
        assert len(attempts) == 4
        assert attempts[3] != attempts[0]


def test_a_call_that_a_stopping_server_resets_is_made_again():
    attempts = []

    async def put(request, context):
        attempts.append(request.token.SerializeToString())
        if request.record == b"always" or len(attempts) < 2:
            raise Fail(1)
        return storage_pb2.PutResponse(receipt=storage_pb2.Receipt(etag="done"))

    with storage_server(**{"Storage/Put": put}) as server, wellspring_client.connect(server.address) as client:
        notes = client.storage.namespace("notes")
        assert notes.put("a", b"").etag == "done"
        assert len(attempts) == 2 and len(set(attempts)) == 1
        with pytest.raises(wellspring_client.Unavailable):
            notes.put("always", b"")


def test_a_token_of_the_caller_s_makes_two_calls_one_write():
    with storage_server() as server, wellspring_client.connect(server.address) as client:
        notes = client.storage.namespace("notes")
        token = notes.new_token()
        assert notes.put("a", b"1", token=token).outcome == storage_pb2.OUTCOME_APPLIED
        assert notes.put("a", b"1", token=token).outcome == storage_pb2.OUTCOME_REPEATED
        stamps = [notes.new_token().time.ToMicroseconds() for _ in range(1_000)]
        assert stamps == sorted(set(stamps)), "the later write of one client wins"


def test_every_call_has_a_deadline():
    async def get(request, context):
        await asyncio.Event().wait()

    server = storage_server(**{"Storage/Get": get})
    with server, wellspring_client.connect(server.address, timeout=1000) as client:
        notes = client.storage.namespace("notes")
        with pytest.raises(wellspring_client.DeadlineExceeded, match="outcome is unknown"):
            notes.get("a", timeout=0.05)
        notes.put("a", b"")
        assert 500 < server.remaining_s < 1100
        with pytest.raises(ValueError, match="above 0"):
            notes.get("a", timeout=0)


def test_nobody_answers():
    said = r"no server answers at 127\.0\.0\.1:1: is it running"
    client = wellspring_client.connect("127.0.0.1:1", timeout=5)
    with client, pytest.raises(wellspring_client.Unavailable, match=said):
        client.storage.namespace("notes").put("a", b"")


def test_pages_batches_and_scans_go_on_by_themselves():
    with storage_server() as server, wellspring_client.connect(server.address) as client:
        notes = client.storage.namespace("notes")
        outcomes = notes.put_many([(f"r{n:02}", b"v%d" % n) for n in range(8)] + [("bad", b"")])
        assert [getattr(one, "etag", None) for one in outcomes[:8]] == [f"e{n}" for n in range(1, 9)]
        assert isinstance(outcomes[8], wellspring_client.ValueTooLarge)
        found = notes.get_many([f"r{n:02}" for n in range(8)] + ["none"])
        assert [item.value if item else None for item in found] == [b"v%d" % n for n in range(8)] + [None]
        assert len(server.calls["Storage/BatchGet"]) == 3, "what did not fit is asked for again"
        assert [record.key for record in notes.scan()] == [b"r%02d" % n for n in range(8)]
        assert len(server.calls["Storage/Scan"]) > 1, "the stream was cut and taken up again"
        server.calls["Storage/Scan"].clear()
        some = [one.record for answer in notes.scan_pages(max_records=5) for one in answer.records]
        assert some == [b"r%02d" % n for n in range(5)]
        left = [request.max_records for request in server.calls["Storage/Scan"]]
        assert left == [5, 3], "what is asked for again is what is still wanted"
        for key in "abcde":
            notes.put("wide", key.encode(), key=key)
        assert [item.value for item in notes.items("wide")] == [b"a", b"b", b"c", b"d", b"e"]
        assert len(server.calls["Storage/Get"]) == 3


def test_a_watch_resumes_where_it_was_and_ends_when_left():
    async def watch(request, context):
        start = int(request.resume_token or 0)
        for number in range(start, start + 2):
            event = storage_pb2.ChangeEvent(record=b"%d" % number)
            yield storage_pb2.WatchResponse(events=[event], resume_token=str(number + 1))
        if start == 2:
            raise Fail(14, "SERVER_DRAINING", retry_s=0.001)
        if start == 4:
            raise Fail(11, "RESUME_TOKEN_EXPIRED")

    with storage_server(**{"Storage/Watch": watch}) as server, wellspring_client.connect(server.address) as client:
        notes = client.storage.namespace("notes")
        feed = notes.watch(from_beginning=True)
        assert [next(feed).events[0].record for _ in range(3)] == [b"0", b"1", b"2"]
        feed.close()
        seen = []
        with pytest.raises(wellspring_client.ResumeTokenExpired):
            for answer in notes.watch(resume_token="2"):
                seen.append(answer.events[0].record)
        assert seen == [b"2", b"3", b"4", b"5"]
        assert [r.from_beginning for r in server.calls["Storage/Watch"][:2]] == [True, False]


def test_a_watch_gives_up_when_nobody_answers_for_long(monkeypatch):
    monkeypatch.setattr("wellspring_client.calls._RESTART_S", 0.0001)
    monkeypatch.setattr("wellspring_client.calls._RESTARTS", 2)

    async def watch(request, context):
        raise Fail(14, "DOWN", pushback_ms=-1)
        yield

    with storage_server(**{"Storage/Watch": watch}) as server, wellspring_client.connect(server.address) as client:
        with pytest.raises(wellspring_client.Unavailable):
            next(client.storage.namespace("notes").watch())
        assert len(server.calls["Storage/Watch"]) == 3


def test_wrong_arguments_are_refused_before_any_call():
    with storage_server() as server, wellspring_client.connect(storage=server.address) as client:
        notes = client.storage.namespace("notes")
        for call in [
            lambda: notes.put("a", b"", if_absent=True, if_etag="x"),
            lambda: notes.put("a", b"", ttl=datetime.timedelta(1), expire_time=datetime.datetime.now(datetime.UTC)),
            lambda: notes.put("a", b"", expire_time=datetime.datetime(2030, 1, 1)),
            lambda: notes.delete("a", keys=["x"], start="y"),
            lambda: notes.delete("a", keys="abc"),
            lambda: client.session,
        ]:
            with pytest.raises(ValueError):
                call()
        assert not server.calls


@pytest.mark.parametrize("address", [None, "", [], "nonsense", ["1.2.3.4:1", "unix:/x"], ["1.2.3.4:1", "[::1]:1"]])
def test_wrong_addresses(address):
    threads = threading.active_count()
    with pytest.raises(ValueError):
        wellspring_client.connect(address)
    assert threading.active_count() == threads


def test_addresses():
    assert target_of("127.0.0.1:1") == "127.0.0.1:1"
    assert target_of(["unix:/tmp/x"]) == "unix:/tmp/x"
    assert target_of(["1.2.3.4:1", "1.2.3.5:2"]) == "ipv4:1.2.3.4:1,1.2.3.5:2"
    assert target_of(["[::1]:1", "[::2]:2"]) == "ipv6:[::1]:1,[::2]:2"


def test_a_closed_client_says_so():
    with storage_server() as server:
        client = wellspring_client.connect(server.address)
        notes = client.storage.namespace("notes")
        notes.put("a", b"")
        client.close()
        client.close()
        with pytest.raises(wellspring_client.ClientClosed):
            notes.put("a", b"")


def test_headers_and_several_connections():
    trace = iter(range(100))

    def headers():
        return {"traceparent": f"00-{next(trace)}"}

    server = storage_server()
    with server, wellspring_client.connect(server.address, headers=headers, connections=3) as client:
        for _ in range(4):
            client.storage.namespace("notes").put("a", b"")
        assert server.metadata["traceparent"] == "00-3"


def test_asyncio_client():
    async def main(address):
        async with wellspring_client.aio.connect(storage=address) as client:
            notes = client.storage.namespace("notes")
            await asyncio.gather(*(notes.put(f"r{n:02}", b"v") for n in range(20)))
            assert [record.key async for record in notes.scan()] == [b"r%02d" % n for n in range(20)]
            assert [item.value async for item in notes.items("r00")] == [b"v"]
            with pytest.raises(wellspring_client.NotFound, match="no namespace other"):
                await client.storage.namespace("other").put("a", b"")
        with pytest.raises(wellspring_client.ClientClosed):
            await notes.get("a")

    with storage_server() as server:
        asyncio.run(main(server.address))


def test_threads_share_a_synchronous_client():
    with storage_server() as server, wellspring_client.connect(server.address) as client:
        notes = client.storage.namespace("notes")
        threads = [
            threading.Thread(target=lambda n=n: [notes.put(f"{n}-{i}", b"") for i in range(20)]) for n in range(5)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(1 for _ in notes.scan()) == 100


def test_tls_with_an_identity(tmp_path):
    authority = make_authority(tmp_path)
    server_key, server_certificate = authority.issue("storage.test")
    client_key, client_certificate = authority.issue("wiki")
    credentials = grpc.ssl_server_credentials(
        [(server_key.read_bytes(), server_certificate.read_bytes())], authority.certificate.read_bytes(), True
    )
    with Server(FakeStorage().methods(), STORAGE, credentials) as server:
        identity = wellspring_client.Tls(
            ca_file=str(authority.certificate),
            certificate_file=str(client_certificate),
            key_file=str(client_key),
            server_name="storage.test",
        )
        with wellspring_client.connect(server.address, tls=identity) as client:
            client.storage.namespace("notes").put("a", b"")
        nobody = wellspring_client.Tls(ca_file=str(authority.certificate), server_name="storage.test")
        for tls in (nobody, None):
            client = wellspring_client.connect(server.address, tls=tls, timeout=3)
            with client, pytest.raises((wellspring_client.Unavailable, wellspring_client.DeadlineExceeded)):
                client.storage.namespace("notes").put("a", b"")
    with pytest.raises(ValueError, match="belong together"):
        wellspring_client.Tls(key_file="k")
    with pytest.raises(FileNotFoundError):
        wellspring_client.connect("127.0.0.1:1", tls=wellspring_client.Tls(ca_file=str(tmp_path / "none")))


def test_what_is_public_is_there():
    for name in wellspring_client.__all__:
        assert getattr(wellspring_client, name).__doc__, name
