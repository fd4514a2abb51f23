"""A real node: answers, bounds, failures told apart, migrations by two at once; and who it does not let in."""

import asyncio
import socket
import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from libs.cassandra import migrations
from libs.cassandra.errors import OutcomeUnknown
from libs.cassandra.gathering import Gathered, Kind
from libs.cassandra.options import Options
from libs.cassandra.session import LOCAL_QUORUM, SERIAL, Session, opened
from libs.cassandra.testing.guarded import EXPIRED, FOREIGN, HOST, Guarded
from libs.config.cassandra import cassandra_options
from libs.errors.errors import FailedPrecondition, Internal, InvalidArgument, Unavailable
from tools.dev.servers.cassandra import Cassandra
from tools.dev.servers.cassandra_config import PASSWORD, USER
from wellspring.config.v1 import backend_pb2

FIRST = "-- What is kept.\nCREATE TABLE {keyspace}.cells (id int PRIMARY KEY, value blob);\n"
SECOND = "ALTER TABLE {keyspace}.cells ADD note text;\n\nCREATE TABLE {keyspace}.more (id int PRIMARY KEY);\n"
PUT = "UPDATE cells USING TIMESTAMP ? SET value = ? WHERE id = ?"
GET = "SELECT value FROM cells WHERE id = ?"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Guarded:
    return Guarded(tmp_path_factory.mktemp("guarded"))


@pytest.fixture(scope="module")
def node(guarded: Guarded) -> Iterator[Cassandra]:
    with Cassandra(guard=guarded.guard) as cassandra:
        yield cassandra


def options(node: Cassandra, keyspace: str = "", **others: Any) -> Options:
    points = tuple((host, node.port) for host in node.contact_points)
    given = {"request_timeout_s": 60.0, "username": USER, "password": PASSWORD, **others}
    return Options(points, keyspace or f"k{uuid.uuid4().hex[:12]}", "dc1", **given)


def configured(node: Cassandra, *, port: Any = 0, **settings: Any) -> Options:
    """What a configuration with these settings becomes; by default at the port with TLS."""
    given = {"keyspace": f"k{uuid.uuid4().hex[:12]}", "local_datacentre": "dc1", "max_in_flight": 64, **settings}
    config = backend_pb2.Cassandra(contact_points=[f"{HOST}:{port or node.tls_port}"], **given)
    config.request_timeout.FromSeconds(60)
    return cassandra_options(config)


def folder(path: Path, *texts: str) -> list[migrations.Migration]:
    for number, text in enumerate(texts, 1):
        (path / f"{number:04}_step.cql").write_text(text)
    return migrations.read(path)


def play(story: Callable[[Session], Awaitable[None]], given: Options, path: Path) -> None:
    async def run() -> None:
        await migrations.apply(given, folder(path, FIRST, SECOND))
        async with opened(given) as session:
            await story(session)

    asyncio.run(run())


def test_many_at_once_come_back_each_to_its_own(node: Cassandra, tmp_path: Path) -> None:
    async def story(session: Session) -> None:
        put, get = await session.prepare(PUT, write=True), await session.prepare(GET, write=False)
        assert (put.conditional, put.prepared.is_idempotent) == (False, True)
        count = 2000  # many more than may be in flight
        await asyncio.gather(*(session.execute(put, (10, b"%d" % n, n)) for n in range(count)))
        rows = await asyncio.gather(*(session.execute(get, (n,)) for n in range(count)))
        assert rows == [[(b"%d" % n,)] for n in range(count)]
        many = await session.prepare("SELECT id, value FROM cells WHERE id IN ?", write=False)
        gathered = Gathered(session, Kind(get, many, lambda _, place: place.to_bytes(4, "big")))
        places = [*range(100), count + 1]
        assert await asyncio.gather(*(gathered.read(place, LOCAL_QUORUM) for place in places)) == [*rows[:100], []]
        everything = await session.prepare("SELECT id, value FROM cells", write=False)
        seen = [row async for page in session.pages(everything, (), size=300) for row in page]
        assert sorted(seen) == [(n, b"%d" % n) for n in range(count)]

    play(story, options(node, max_in_flight=64), tmp_path)


def test_over_tls_all_is_as_it_was_sent(node: Cassandra, guarded: Guarded, tmp_path: Path) -> None:
    """Of many requests and of large ones, which are cut into pieces for the socket and joined again."""

    async def story(session: Session) -> None:
        put, get = await session.prepare(PUT, write=True), await session.prepare(GET, write=False)
        values = [bytes([n % 256]) * (n * 997) for n in range(400)] + [b"large" * 200_000]
        await asyncio.gather(*(session.execute(put, (10, value, n)) for n, value in enumerate(values)))
        rows = await asyncio.gather(*(session.execute(get, (n,)) for n in range(len(values))))
        assert rows == [[(value,)] for value in values]

    play(story, configured(node, tls=guarded.tls(), **guarded.login()), tmp_path)


def test_who_is_not_let_in_is_told_by_which_setting(
    node: Cassandra, guarded: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    known = guarded.login()
    own = "tls.certificate_file, tls.key_file: a node"
    cases: list[tuple[str, str, dict[str, Any]]] = [
        ("STORE_DENIED", "username, password_file: it asks for a user", {"tls": guarded.tls()}),
        (
            "STORE_DENIED",
            "username, password_file: it refuses the user 'cassandra' with this password",
            {"tls": guarded.tls(), **guarded.login(password="planted-secret")},
        ),
        (
            "STORE_DENIED",
            "username, password_file: it refuses the user 'nobody' with this password",
            {"tls": guarded.tls(), **guarded.login("nobody", "planted-secret")},
        ),
        ("STORE_UNREACHABLE", "tls.ca_file: a node's certificate is not signed by", {"tls": guarded.tls(ca=FOREIGN)}),
        (
            "STORE_UNREACHABLE",
            "tls.server_name: a node's certificate does not carry 'db.example'",
            {"tls": guarded.tls(server_name="db.example")},
        ),
        ("STORE_DENIED", own, {"tls": guarded.tls(None)}),
        ("STORE_DENIED", own, {"tls": guarded.tls(EXPIRED)}),
        ("STORE_DENIED", own, {"tls": guarded.tls(FOREIGN)}),
        ("STORE_UNREACHABLE", "tls: a node breaks off connections without it", {}),
        ("STORE_UNREACHABLE", "tls: what listens there does not speak TLS", {"port": node.port, "tls": guarded.tls()}),
        (
            "STORE_UNREACHABLE",
            "local_datacentre: there is no 'atlantis'; there is dc1",
            {"tls": guarded.tls(), "local_datacentre": "atlantis", **known},
        ),
    ]
    for reason, why, settings in cases:
        with pytest.raises(Unavailable) as refused:
            asyncio.run(Session.open(configured(node, **settings), keyspace=False))
        assert why in refused.value.message, settings
        assert refused.value.reason == reason
        said = refused.value.message.partition("): ")[2]
        assert "SSL" not in said and "Error" not in said and "\n" not in said
    assert "planted-secret" not in caplog.text and "planted-secret" not in str(refused.value)


def test_a_request_of_several_segments_does_not_wait_for_what_was_sent_before_to_be_acknowledged(
    node: Cassandra, tmp_path: Path
) -> None:
    async def story(session: Session) -> None:
        (pool,) = session._raw.get_pools()
        sockets = [connection._socket for connection in pool.get_connections()]
        assert sockets and all(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for one in sockets)

    play(story, options(node), tmp_path)


def test_conditional_writes_are_never_idempotent(node: Cassandra, tmp_path: Path) -> None:
    async def story(session: Session) -> None:
        take = await session.prepare("INSERT INTO cells (id, value) VALUES (?, ?) IF NOT EXISTS", write=True)
        assert (take.conditional, take.prepared.is_idempotent) == (True, False)
        answers = await asyncio.gather(
            *(session.execute(take, (1, b"%d" % n), LOCAL_QUORUM, serial=SERIAL) for n in range(10))
        )
        assert [rows[0][0] for rows in answers].count(True) == 1

    play(story, options(node), tmp_path)


def test_a_silent_node_leaves_writes_open_and_reads_undone(node: Cassandra, tmp_path: Path) -> None:
    async def story(session: Session) -> None:
        put, get = await session.prepare(PUT, write=True), await session.prepare(GET, write=False)
        await session.execute(put, (1, b"before", 1))
        node.nodes[0].pause()
        try:
            with pytest.raises(OutcomeUnknown) as unknown:
                await session.execute(put, (2, b"after", 1), timeout_s=0.3)
            assert unknown.value.reason == "OUTCOME_UNKNOWN"
            with pytest.raises(Unavailable) as away:
                await session.execute(get, (1,), timeout_s=0.3)
            assert not isinstance(away.value, OutcomeUnknown)
            assert "127.0" not in away.value.message and "cassandra" not in away.value.message.lower()
        finally:
            node.nodes[0].resume()
        for _ in range(1000):
            try:
                value = await session.execute(get, (1,))
                break
            except Unavailable:
                await asyncio.sleep(0.2)
        # The write that nobody answered may have come or not; sent again it is the same write.
        await session.execute(put, (2, b"after", 1))
        value = await session.execute(get, (1,))
        assert value == [(b"after",)]

    play(story, options(node), tmp_path)


def test_what_the_node_does_not_understand_is_our_fault(node: Cassandra, tmp_path: Path) -> None:
    async def story(session: Session) -> None:
        with pytest.raises(Internal) as wrong:
            await session.prepare("SELECT nothing FROM cells", write=False)
        assert "cells" not in wrong.value.message

    play(story, options(node), tmp_path)


def test_migrations_are_applied_once_by_two_at_once_and_checked(node: Cassandra, tmp_path: Path) -> None:
    async def story() -> None:
        given = options(node)
        known = folder(tmp_path, FIRST, SECOND)
        with pytest.raises(Unavailable, match="migrations"):
            await Session.open(given)
        assert await migrations.apply(given, known[:1]) == ["0001_step"]
        async with opened(given) as session:
            with pytest.raises(FailedPrecondition, match="lacks 1 migrations, 0002_step") as missing:
                await migrations.check(session, known)
            assert missing.value.reason == "MIGRATIONS_MISSING"
            done = await asyncio.gather(migrations.apply(given, known), migrations.apply(given, known))
            assert sorted(done) == [[], ["0002_step"]]
            await migrations.check(session, known)
            with pytest.raises(FailedPrecondition) as newer:
                await migrations.check(session, known[:1])
            assert newer.value.reason == "MIGRATIONS_NEWER"
        (tmp_path / "0002_step.cql").write_text(SECOND.replace("note", "other"))
        with pytest.raises(FailedPrecondition) as differ:
            await migrations.apply(given, migrations.read(tmp_path))
        assert differ.value.reason == "MIGRATIONS_DIFFER"

    asyncio.run(story())


def test_a_placement_that_does_not_exist_is_refused(node: Cassandra, tmp_path: Path) -> None:
    async def story() -> None:
        given = options(node, replication={"dc1": 1, "atlantis": 1})
        with pytest.raises(FailedPrecondition, match="atlantis; it has dc1"):
            await migrations.apply(given, folder(tmp_path, FIRST))

    asyncio.run(story())


def test_files_that_are_no_migrations_are_named(tmp_path: Path) -> None:
    (tmp_path / "first.cql").write_text(FIRST)
    with pytest.raises(InvalidArgument, match=r"first\.cql is no migration"):
        migrations.read(tmp_path)
    (tmp_path / "first.cql").rename(tmp_path / "0002_first.cql")
    with pytest.raises(InvalidArgument, match="without a gap"):
        migrations.read(tmp_path)


def test_nothing_listens(tmp_path: Path) -> None:
    async def story() -> None:
        with pytest.raises(Unavailable, match=r"127\.0\.0\.1:9 cannot be opened"):
            await Session.open(Options((("127.0.0.1", 9),), "k", "dc1"))

    asyncio.run(story())
