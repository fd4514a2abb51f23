"""Server credentials from PEM files, read again when the files change."""

import os
import ssl
from pathlib import Path

import grpc

from libs.rpc.options import StartError, TlsOptions


def server_credentials(options: TlsOptions) -> grpc.ServerCredentials:
    """Credentials that serve the files' newest content to each new connection.

    Raises StartError, naming the file, when one cannot be read or is not PEM. A file that becomes unreadable later
    keeps the content it had.
    """
    files = _Files(options)
    first = files.load()
    make = getattr(grpc, "dynamic_ssl_server_credentials")  # noqa: B009  (the stubs lack it)
    made: grpc.ServerCredentials = make(
        first, files.load_if_changed, require_client_authentication=options.client_ca_file is not None
    )
    return made


def check_files(options: TlsOptions) -> None:
    """Raises StartError as server_credentials does, before anything is opened or made."""
    _Files(options).load()


class _Files:
    def __init__(self, options: TlsOptions) -> None:
        self._options = options
        self._seen: tuple[tuple[int, int], ...] = ()

    def load(self) -> object:
        options = self._options
        self._seen = self._stamps()
        key = _pem(options.key_file, "server.tls.key_file", b"PRIVATE KEY-----")
        chain = _pem(options.certificate_file, "server.tls.certificate_file", b"-----BEGIN CERTIFICATE-----")
        _check_pair(options)
        roots = None
        if options.client_ca_file is not None:
            roots = _pem(options.client_ca_file, "server.tls.client_ca_file", b"-----BEGIN CERTIFICATE-----")
        make = getattr(grpc, "ssl_server_certificate_configuration")  # noqa: B009  (the stubs lack it)
        return make([(key, chain)], root_certificates=roots)

    def load_if_changed(self) -> object:
        """The new configuration, or None to go on with the one in use. Called by gRPC before each handshake."""
        try:
            return self.load() if self._stamps() != self._seen else None
        except (StartError, OSError):
            return None

    def _stamps(self) -> tuple[tuple[int, int], ...]:
        options = self._options
        names = (options.certificate_file, options.key_file, options.client_ca_file)
        try:
            found = [os.stat(name) for name in names if name is not None]
        except OSError as error:
            raise StartError(f"server.tls: cannot read {error.filename}: {os.strerror(error.errno or 0)}") from None
        return tuple((status.st_mtime_ns, status.st_ino) for status in found)


def _check_pair(options: TlsOptions) -> None:
    """gRPC would say no more than that it cannot listen; and a pair half renewed must not replace one that is whole."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(options.certificate_file, options.key_file, password="")
    except (OSError, ValueError):
        raise StartError(
            f"server.tls: {options.key_file} is not the key of {options.certificate_file}, or needs a password;"
            " a PEM certificate chain and its own key without a password are expected"
        ) from None


def _pem(name: str, where: str, mark: bytes) -> bytes:
    try:
        content = Path(name).read_bytes()
    except OSError as error:
        raise StartError(f"{where}: cannot read {name}: {os.strerror(error.errno or 0)}") from None
    if mark not in content:
        raise StartError(f"{where}: {name} holds no PEM block with {mark.decode().strip('-')!r}")
    return content
