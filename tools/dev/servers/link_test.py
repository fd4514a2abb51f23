"""A link carries; cut, it carries nothing and lets nobody in; mended, it carries anew, and nothing of before."""

import socket
import threading

import pytest

from tools.dev.servers.link import Link
from tools.dev.servers.ports import free_port

HERE, FRONT = "127.0.0.1", "127.1.0.1"


@pytest.fixture
def linked():
    """A server that says what it is told, and a link before it."""
    port = free_port(HERE, FRONT)
    listening = socket.create_server((HERE, port))

    def says(one):
        with one:
            while piece := one.recv(1000):
                one.sendall(piece)

    def serve():
        while True:
            try:
                one, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=says, args=(one,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    link = Link(FRONT, HERE, [port])
    yield link, lambda: socket.create_connection((FRONT, port), 60)
    link.close()
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()


def said(connection, words):
    connection.sendall(words)
    got = b""
    while len(got) < len(words):
        piece = connection.recv(1 << 16)
        if not piece:
            raise ConnectionResetError
        got += piece
    return got


def rest(connection):
    """All that still comes, until the end."""
    try:
        return connection.recv(1 << 16)
    except ConnectionResetError:
        return b""


def test_what_is_sent_comes_to_the_server_and_its_answer_back(linked):
    _, connect = linked
    words = bytes(range(256)) * 4000
    with connect() as one, connect() as other:
        for connection in (one, other):
            threading.Thread(target=connection.sendall, args=(words,), daemon=True).start()
        for connection in (one, other):
            got = b""
            while len(got) < len(words):
                got += connection.recv(1 << 16)
            assert got == words


def test_cut_it_carries_nothing_and_what_was_under_way_is_lost(linked):
    link, connect = linked
    with connect() as before:
        assert said(before, b"one") == b"one"
        link.cut()
        before.sendall(b"two")
        with connect() as meanwhile:
            assert rest(meanwhile) == b""
        link.mend()
        assert rest(before) == b""
    with connect() as after:
        assert said(after, b"three") == b"three"
        link.cut()
        link.mend()
        assert rest(after) == b""
        with connect() as again:
            assert said(again, b"four") == b"four"
