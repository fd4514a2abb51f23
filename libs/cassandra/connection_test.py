"""What waits goes out by few system calls, whole and in order, also where the socket takes it by and by."""

import asyncio
import random
import socket
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest
from cassandra.io import libevreactor

from libs.cassandra.connection import PIECE_BYTES, Connection, ask


class Socket:
    """Takes so many bytes of each call; a None says that it would block."""

    def __init__(self, takes: list[int | None]) -> None:
        self.takes = takes
        self.sent: list[bytes] = []

    def send(self, data: bytes) -> int:
        room = self.takes.pop(0) if self.takes else len(data)
        if room is None:
            raise BlockingIOError(11, "would block")
        self.sent.append(data[:room])
        return min(room, len(data))


class Thread:
    """The driver's, which is told when something waits."""

    def __init__(self) -> None:
        self.told = threading.Event()

    def notify(self) -> None:
        self.told.set()


@pytest.fixture(autouse=True)
def thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[Thread]:
    made = Thread()
    monkeypatch.setattr(libevreactor, "_global_loop", made)
    yield made


def connection(takes: list[int | None], messages: list[bytes], to: Any = None) -> Any:
    """One without a node, with what waits to be sent."""
    made: Any = Connection.__new__(Connection)
    made.execute_async = lambda data, timeout: made.push(data)  # as the driver's session does, in the end
    made.deque, made._deque_lock, made._socket_writable = deque(messages), threading.Lock(), True
    made._turn, made._sending = [], threading.Lock()
    made._socket = Socket(takes) if to is None else to
    return made


def test_requests_of_one_turn_are_one_system_call() -> None:
    messages = [b"%04d" % number * 100 for number in range(40)]
    made = connection([], messages)
    made.handle_write(None, 0)
    assert made._socket.sent == [b"".join(messages)]


def test_a_piece_has_its_bounds() -> None:
    messages = [bytes([number]) * (PIECE_BYTES // 3) for number in range(7)]
    made = connection([], messages)
    while made.deque:
        made.handle_write(None, 0)
    assert b"".join(made._socket.sent) == b"".join(messages) and max(map(len, made._socket.sent)) <= PIECE_BYTES


def test_what_a_socket_takes_by_and_by_arrives_whole_and_in_order() -> None:
    for seed in range(50):
        chance = random.Random(seed)
        messages = [chance.randbytes(chance.randrange(1, 30_000)) for _ in range(20)]
        takes = [chance.choice([None, chance.randrange(1, 20_000), 1 << 20]) for _ in range(30)]
        made, later = connection(takes, messages[:10]), messages[10:]
        while made.deque or later:
            if later:
                made.deque.append(later.pop(0))  # while others wait
            made.handle_write(None, 0)
        assert b"".join(made._socket.sent) == b"".join(messages), f"seed {seed}"


def test_nothing_waits() -> None:
    made = connection([], [])
    made.handle_write(None, 0)
    assert made._socket.sent == []


def test_the_event_loop_sends_what_is_asked_in_a_turn_by_one_system_call(thread: Thread) -> None:
    made = connection([], [])

    async def main() -> None:
        for number in range(3):
            ask(made, b"%d" % number)
        assert made._socket.sent == []
        await asyncio.sleep(0)
        assert made._socket.sent == [b"012"]
        ask(made, b"3")
        await asyncio.sleep(0)

    asyncio.run(main())
    assert made._socket.sent == [b"012", b"3"] and not thread.told.is_set()


@pytest.mark.parametrize("takes", [None, 0, 5])
def test_what_the_socket_does_not_take_of_a_turn_is_left_to_the_thread(thread: Thread, takes: int | None) -> None:
    made = connection([takes], [])

    async def main() -> None:
        ask(made, b"a" * PIECE_BYTES)
        ask(made, b"b" * PIECE_BYTES)
        await asyncio.sleep(0)

    asyncio.run(main())
    assert thread.told.is_set() and max(map(len, made.deque)) <= PIECE_BYTES
    while made.deque:
        made.handle_write(None, 0)
    assert b"".join(made._socket.sent) == b"a" * PIECE_BYTES + b"b" * PIECE_BYTES


def test_a_turn_goes_behind_what_waits_already(thread: Thread) -> None:
    made = connection([], [b"first"])

    async def main() -> None:
        ask(made, b"second")
        await asyncio.sleep(0)

    asyncio.run(main())
    assert made._socket.sent == [] and thread.told.is_set()
    made.handle_write(None, 0)
    assert made._socket.sent == [b"firstsecond"]


def test_a_turn_that_ends_while_the_thread_sends_does_not_get_between() -> None:
    made = connection([3], [b"first"])
    send = made._socket.send

    def meanwhile(data: bytes) -> int:
        made._socket.send = send
        made._turn.append(b"second")
        made._send_turn()
        return int(send(data))

    made._socket.send = meanwhile
    while made.deque:
        made.handle_write(None, 0)
    assert b"".join(made._socket.sent) == b"firstsecond"


@pytest.mark.parametrize("tls", [True, False])
def test_all_sending_of_tls_and_of_who_does_not_await_the_answer_is_the_thread_s(thread: Thread, tls: bool) -> None:
    made = connection([], [])
    made.ssl_context = object() if tls else None

    async def main() -> None:
        ask(made, b"asked") if tls else made.push(b"asked")
        assert thread.told.is_set() and list(made.deque) == [b"asked"]
        await asyncio.sleep(0)

    asyncio.run(main())
    assert made._socket.sent == []


def test_messages_of_several_threads_arrive_whole_and_each_one_s_in_order(thread: Thread) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    made = connection([], [], ours)
    count, ended = 1500, threading.Event()

    def message(source: bytes, number: int) -> bytes:
        body = source * (number * 37 % 3000)
        return source + number.to_bytes(2, "big") + len(body).to_bytes(2, "big") + body

    def drive() -> None:
        while not ended.is_set():
            thread.told.wait(0.001)
            thread.told.clear()
            if made.deque:
                made.handle_write(None, 0)

    def other() -> None:
        for number in range(count):
            made.push(message(b"t", number))

    async def main() -> None:
        for number in range(count):
            ask(made, message(b"l", number))
            if not number % 3:
                await asyncio.sleep(0)
        await asyncio.sleep(0)

    workers = [threading.Thread(target=work, daemon=True) for work in (drive, other, lambda: asyncio.run(main()))]
    for worker in workers:
        worker.start()
    seen = {b"l": 0, b"t": 0}
    theirs.settimeout(60)
    with theirs.makefile("rb") as stream:
        while sum(seen.values()) < 2 * count:
            head = stream.read(5)
            source, number = head[:1], int.from_bytes(head[1:3], "big")
            assert stream.read(int.from_bytes(head[3:], "big")) == message(source, number)[5:]
            assert number == seen[source]
            seen[source] += 1
    ended.set()
    for worker in workers:
        worker.join(60)
    ours.close()
    theirs.close()
