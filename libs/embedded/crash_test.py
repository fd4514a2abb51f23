"""kill -9 at any moment, a torn or damaged log, a full disk: nothing that was acknowledged is missing, nothing comes
back out of order.

The writer below runs as a process of its own. It submits batches without waiting in between; batch ``n`` writes ``n``
under a key of its own in two families and moves a counter, so that what is found after a crash shows whether it is a
whole prefix. It prints ``n`` when batch ``n`` is acknowledged.
"""

import os
import random
import resource
import signal
import subprocess
import sys
import time

import pytest

from libs.embedded.failures import StoreDamaged
from libs.embedded.settings import FamilySpec, Settings
from libs.embedded.store import EmbeddedStore

WRITER = """
import asyncio, os, sys
from libs.embedded.settings import FamilySpec, Settings
from libs.embedded.store import EmbeddedStore
from libs.errors.errors import WellspringError

path, value_bytes, limit, pending = sys.argv[1], *map(int, sys.argv[2:])
settings = Settings(cache_bytes=1 << 20, write_buffer_bytes=1 << 20, log_bytes=1 << 20, reserve_bytes=0)

def say(text):
    os.write(1, text.encode() + b"\\n")

async def main():
    families = [FamilySpec("a"), FamilySpec("b")]
    store = EmbeddedStore.open(path, schema="crash", version=1, families=families, settings=settings)
    a, b = store.family("a"), store.family("b")
    say("open")
    number = int(b.get(b"count") or b"0")

    async def wait(future, number):
        await future
        say(str(number))

    async with asyncio.TaskGroup() as tasks:
        for _ in range(limit):
            number += 1
            batch = store.batch()
            batch.put(a, b"%08d" % number, os.urandom(value_bytes))
            batch.put(b, b"%08d" % number, b"%d" % number)
            batch.put(b, b"count", b"%d" % number)
            tasks.create_task(wait(store.submit(batch), number))
            if number % 7 == 0:
                await asyncio.sleep(0)
            if store.pending >= pending:
                await store.durable()
    say("end")
    await asyncio.sleep(60)

try:
    asyncio.run(main())
except* WellspringError as group:
    say("failed " + ",".join(sorted({type(error).__name__ for error in group.exceptions})))
"""
SETTINGS = Settings(cache_bytes=1 << 20, write_buffer_bytes=1 << 20, log_bytes=1 << 20, reserve_bytes=0)


def start(path, value_bytes, limit, pending=500, **arguments):
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            WRITER,
            str(path),
            *map(str, (value_bytes, limit, pending)),
        ],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        **arguments,
    )


def acknowledged(process):
    """What a writer said that has ended: the highest number acknowledged, and its words."""
    output = process.stdout.read().decode().splitlines()
    process.stdout.close()
    process.wait()
    numbers = [int(line) for line in output if line.isdigit()]
    return max(numbers, default=0), [line for line in output if not line.isdigit()]


def check(path, at_least):
    """Open what a crash left: a whole prefix that holds at least ``at_least`` batches. Returns its length."""
    with EmbeddedStore.open(
        path,
        schema="crash",
        version=1,
        families=[FamilySpec("a"), FamilySpec("b")],
        settings=SETTINGS,
    ) as store:
        count = int(store.family("b").get(b"count") or b"0")
        names = [b"%08d" % number for number in range(1, count + 1)]
        assert list(store.family("a").scan_keys()) == names, "family a is not a whole prefix"
        assert list(store.family("b").scan(end=b"count")) == [(n, b"%d" % int(n)) for n in names], (
            "family b is not a whole prefix"
        )
    assert count >= at_least, f"{at_least} batches were acknowledged, {count} are there"
    return count


def test_kill_at_random_moments(tmp_path):
    seed = int(os.environ.get("SEED", random.SystemRandom().randrange(1 << 32)))
    kills = int(os.environ.get("KILLS", "20"))
    print(f"repeat with SEED={seed} KILLS={kills}")
    rng = random.Random(seed)
    path = tmp_path / "data"
    total = 0
    for kill in range(kills):
        process = start(path, rng.choice([10, 300, 5_000]), 1_000_000)
        if rng.random() < 0.8:
            assert process.stdout.readline() == b"open\n"
        time.sleep(rng.uniform(0.0, 0.25))
        process.send_signal(signal.SIGKILL)
        number, _ = acknowledged(process)
        total = check(path, max(total, number)) if kill % 4 == 3 else max(total, number)
    assert check(path, total) > 0


def test_a_torn_tail_is_forgiven_and_a_damaged_middle_is_not(tmp_path):
    """The log is cut behind the last acknowledged byte as a power cut would, at every kind of place; then damaged
    before it.
    """
    seed = int(os.environ.get("SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"repeat with SEED={seed}")
    rng = random.Random(seed)
    path = tmp_path / "data"
    process = start(path, 20, 300)
    while (line := process.stdout.readline()) != b"end\n":
        assert line, "the writer ended before its end"
        last = line
    process.kill()
    process.stdout.close()
    process.wait()
    number = int(last)
    (log,) = (file for file in (path / "db").glob("*.log") if file.stat().st_size)
    whole = log.read_bytes()
    copy = tmp_path / "copy"
    for _ in range(4):  # a tail of which nobody was told
        clone(path, copy)
        tail = rng.randbytes(rng.randrange(1, 200)) if rng.random() < 0.5 else whole[: rng.randrange(1, 60)]
        (copy / "db" / log.name).write_bytes(whole + tail)
        assert check(copy, number) == number
        assert not (copy / "unverified").exists()
    for kind in range(16):  # a tail like a record, of every type that there is and some that there are not
        clone(path, copy)
        record = rng.randbytes(4) + rng.randrange(60_000).to_bytes(2, "little") + bytes([kind]) + rng.randbytes(50)
        (copy / "db" / log.name).write_bytes(whole + record)
        assert check(copy, number) == number
    for place in (len(whole) - 3, len(whole) // 2, rng.randrange(200, len(whole))):  # data that was acknowledged
        clone(path, copy)
        damaged = bytearray(whole)
        damaged[place] ^= 0x40
        (copy / "db" / log.name).write_bytes(damaged)
        for _ in range(2):  # the second start must not take the loss for granted
            with pytest.raises(StoreDamaged, match=r"writes up to \d+ were acknowledged"):
                check(copy, 0)
        assert (copy / "unverified" / log.name).read_bytes() == bytes(damaged), "the evidence is kept"
        (copy / "DURABLE").unlink()  # what the message says: accept the loss
        assert check(copy, 0) < number


def test_damage_that_rocksdb_spins_on_is_refused_like_any_other(tmp_path):
    """One flipped bit makes the type of a recycled log out of an ordinary one, in a log or in the list of files."""
    path = tmp_path / "data"
    process = start(path, 5_000, 40)
    while (line := process.stdout.readline()) != b"end\n":
        assert line, "the writer ended before its end"
    process.kill()
    process.stdout.close()
    process.wait()
    copy = tmp_path / "copy"
    seed = int(os.environ.get("SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"repeat with SEED={seed}")
    rng = random.Random(seed)
    (log,) = (file for file in (path / "db").glob("*.log") if file.stat().st_size > 2 * 32_768)
    whole = log.read_bytes()
    for _ in range(15):  # noise of any length at any place, as a disk would leave it
        clone(path, copy)
        place, noise = rng.randrange(len(whole)), rng.randbytes(rng.randrange(1, 100_000))
        (copy / "db" / log.name).write_bytes((whole[:place] + noise + whole[place + len(noise) :])[: len(whole)])
        with pytest.raises(StoreDamaged):
            check(copy, 0)
    (manifest,) = (path / "db").glob("MANIFEST-*")
    for file, place in ((log, 6), (log, 32_768 + 6), (manifest, 6)):
        clone(path, copy)
        damaged = bytearray(file.read_bytes())
        assert damaged[place] in (1, 2, 3, 4), "the type of the first record of a block"
        damaged[place] |= 4 if damaged[place] < 4 else 8
        (copy / "db" / file.name).write_bytes(damaged)
        for _ in range(2):
            with pytest.raises(StoreDamaged):
                check(copy, 0)
        if file == log:
            assert (copy / "unverified" / log.name).read_bytes() == bytes(damaged), "the evidence is kept whole"


def clone(source, target):
    subprocess.run(["rm", "-rf", str(target)], check=True)
    subprocess.run(["cp", "-r", str(source), str(target)], check=True)


@pytest.mark.parametrize("limit_kib", [40, 200, 450])
def test_a_full_disk_fails_what_waits_and_loses_nothing(tmp_path, limit_kib):
    """A limit on the size of files stands in for the end of the disk: the write of the log or of a table fails half
    way.
    """
    path = tmp_path / "data"
    process = start(path, 2_000, 1_000_000, 7, preexec_fn=lambda: limit_files(limit_kib << 10))
    number, words = acknowledged(process)
    assert words == ["open", "failed DiskFull"]
    assert number > 0
    check(path, number)


def limit_files(size_bytes):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, size_bytes))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def test_a_damaged_watermark_is_named(tmp_path):
    check(tmp_path / "data", 0)
    (tmp_path / "data" / "DURABLE").write_bytes(b"\x01" * 12)
    with pytest.raises(StoreDamaged, match="DURABLE is damaged"):
        check(tmp_path / "data", 0)
