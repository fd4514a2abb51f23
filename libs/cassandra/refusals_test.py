"""What listens is no node, or shows a certificate that is none: told by the setting, without a node."""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from libs.cassandra.options import Options
from libs.cassandra.session import Session
from libs.errors.errors import Unavailable
from libs.rpc.testing.certificates import Authority


@contextlib.contextmanager
def listening(context: ssl.SSLContext) -> Iterator[int]:
    """The port of a listener that shakes hands, and then says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:  # closed
                    return
                with connection, contextlib.suppress(OSError):
                    context.wrap_socket(connection, server_side=True)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize(
    ("address", "expired", "apart", "why"),
    [
        ("127.0.0.1", True, False, r"tls\.ca_file: a node's certificate is not valid at this time"),
        ("127.0.0.2", False, False, r"tls\.server_name: a node's certificate does not carry the address that it is at"),
        ("127.0.0.1", False, True, r"tls: nodes and this service have no version or cipher in common"),
    ],
)
def test_a_certificate_that_is_none_is_told(address: str, expired: bool, apart: bool, why: str, tmp_path: Path) -> None:
    authority = Authority()
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("node", addresses=(address,), expired=expired).write(tmp_path, "node"))
    tls = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    if apart:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        tls.minimum_version = ssl.TLSVersion.TLSv1_3
    with listening(context) as port, pytest.raises(Unavailable, match=why) as refused:
        asyncio.run(Session.open(Options((("127.0.0.1", port),), "k", "dc1", tls=tls)))
    assert refused.value.reason == "STORE_UNREACHABLE"
    assert "SSL" not in refused.value.message
