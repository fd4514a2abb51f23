"""A full disk: what was acknowledged stays, what does not fit is refused with what to do, and the service
goes on when there is room again, after a restart at the latest."""

import os
import shutil

import pytest

import wellspring_client
from tests.system.refusing import plain
from tests.system.served import Served
from wellspring_client.errors import QuotaExceeded, SessionInvalid, Unavailable, WellspringError

CHUNK = os.urandom(256 * 1024)
MIB = 1 << 20


@pytest.fixture
def served(tmp_path):
    """Storage whose reserve is what the disk has free now but 2 GiB: a big file makes it full, and undoes it."""
    free = shutil.disk_usage(tmp_path).free
    room = min(2 << 30, free // 2)
    backend = {"embedded": {"path": str(tmp_path / "storage" / "data"), "reserve_bytes": free - room}}
    served = Served(tmp_path / "storage", "storage", "grpcio", {"backend": backend})
    served.start()
    yield served
    served.kill()


def test_at_the_reserve_puts_are_refused_deletes_go_on_and_room_is_noticed(served, tmp_path):
    balloon = tmp_path / "balloon"
    with wellspring_client.connect(storage=served.address, timeout=30) as client:
        client.storage.create_namespace("notes")
        notes = client.storage.namespace("notes")
        kept = {f"a{n}".encode(): CHUNK for n in range(4)}
        for name, value in kept.items():
            notes.put(name, value)
        notes.put("victim", b"x")
        with balloon.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, min(3 << 30, shutil.disk_usage(tmp_path).free - (256 << 20)))
        full: list[QuotaExceeded] = []
        for number in range(200):  # The disk is asked again after every 16 MiB written.
            try:
                notes.put(f"more{number}", CHUNK)
                kept[f"more{number}".encode()] = CHUNK
            except QuotaExceeded as error:
                full.append(error)
                break
        assert full, "a full disk was never noticed"
        assert full[0].reason == "DISK_FULL" and full[0].retry_after_s
        assert "free" in plain(full[0].message)
        notes.delete("victim")
        assert {record.key: record.value for record in notes.scan()} == kept
        balloon.unlink()
        notes.put("after", b"room")
        kept[b"after"] = b"room"
        assert {record.key: record.value for record in notes.scan()} == kept


def test_a_disk_without_a_reserve_that_fills_up_loses_nothing_that_was_acknowledged(tmp_path):
    """The limit of a file's size stands for the disk's end: every write beyond it fails, as on a full disk."""
    embedded = {
        "path": str(tmp_path / "storage" / "data"),
        "reserve_bytes": 0,
        "write_buffer_bytes": 64 * MIB,
        "log_bytes": 256 * MIB,
    }
    served = Served(tmp_path / "storage", "storage", "grpcio", {"backend": {"embedded": embedded}})
    whole = served.process.command
    served.process.command = ["prlimit", f"--fsize={8 * MIB}", *whole]
    served.start()
    kept, errors = {}, []
    try:
        with wellspring_client.connect(storage=served.address, timeout=30) as client:
            client.storage.create_namespace("notes")
            notes = client.storage.namespace("notes")
            for number in range(60):
                try:
                    notes.put(f"a{number}", CHUNK)
                    kept[f"a{number}".encode()] = CHUNK
                except WellspringError as error:
                    errors.append(error)
                    if len(errors) == 3:
                        break
            assert errors, "the disk never became full"
            assert isinstance(errors[0], QuotaExceeded | Unavailable)
            for told in errors:
                assert told.reason, told
                plain(told.message)
        assert served.process.running
        served.kill()
        served.process.command = whole
        served.start()
        with wellspring_client.connect(storage=served.address, timeout=30) as client:
            notes = client.storage.namespace("notes")
            found = {record.key: record.value for record in notes.scan()}
            assert {name: found.get(name) for name in kept} == kept
            notes.put("after", b"room")
            assert notes.get("after").value == b"room"
    finally:
        served.kill()


def test_at_the_reserve_nobody_new_logs_in_and_everybody_can_be_logged_out(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    room = min(2 << 30, free // 2)
    config = {
        "backend": {"embedded": {"path": str(tmp_path / "session" / "data"), "reserve_bytes": free - room}},
        "keyring_file": str(tmp_path / "keyring.json"),
        "create_keyring": True,
        "realms": [{"name": "web", "max_data_bytes": MIB}],
    }
    served = Served(tmp_path / "session", "session", "grpcio", config)
    served.start()
    try:
        with wellspring_client.connect(session=served.address, timeout=30) as client:
            realm = client.session.realm("web")
            one, two, three = (realm.create(f"s{n}") for n in range(3))
            with (tmp_path / "balloon").open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, min(3 << 30, shutil.disk_usage(tmp_path).free - (256 << 20)))
            with pytest.raises(QuotaExceeded) as caught:
                for _ in range(200):
                    realm.create("filler", data={"k": CHUNK})
            assert caught.value.reason == "DISK_FULL"
            plain(caught.value.message)
            realm.revoke(one.token)
            realm.revoke(subject="s1")
            for ended in (one, two):
                with pytest.raises(SessionInvalid):
                    realm.validate(ended.token)
            realm.validate(three.token)
    finally:
        served.kill()
