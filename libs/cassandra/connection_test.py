"""What waits goes out by few system calls, whole and in order, also where the socket takes it by and by."""

import random
import threading
from collections import deque
from typing import Any

from libs.cassandra.connection import PIECE_BYTES, Connection


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


def connection(takes: list[int | None], messages: list[bytes]) -> Any:
    """One without a node, with what waits to be sent."""
    made: Any = Connection.__new__(Connection)
    made.deque, made._deque_lock, made._socket, made._socket_writable = deque(messages), threading.Lock(), None, True
    made._socket = Socket(takes)
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
