"""Certificates and credentials of the front: read at the start, and again when they change.

A file that cannot be read later, or is only half written, changes nothing: what was good before stays.
"""

import asyncio
import logging
import os
import re
import ssl
import stat
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Final

from libs.rpc.options import StartError
from libs.telemetry.logs import fields
from services.session.kask.callers import CREDENTIAL, Callers
from wellspring.config.v1 import session_pb2 as config_pb

log = logging.getLogger(__name__)

INTERVAL_S: Final = 5.0
_SECRET: Final = re.compile(r"[!-~]{32,512}")
_MOST: Final = 16


def credentials(config: config_pb.KaskFront) -> dict[bytes, str]:
    """SHA-256 of every credential, with its caller's identity. Raises StartError, which repeats none of them."""
    found: dict[bytes, str] = {}
    for at, caller in enumerate(config.callers):
        where = f"kask.callers[{at}]"
        if caller.identity.startswith(CREDENTIAL) != bool(caller.credential_file):
            raise StartError(
                f'{where}: an identity "{CREDENTIAL}name" and a credential_file belong together; a caller without a'
                " credential has the name in its certificate"
            )
        if not caller.credential_file:
            continue
        for secret in _secrets(Path(caller.credential_file), where):
            if found.setdefault(sha256(secret.encode()).digest(), caller.identity) != caller.identity:
                raise StartError(f"{where}.credential_file: another caller has the same credential")
    return found


def _secrets(path: Path, where: str) -> list[str]:
    try:
        mode, text = path.stat().st_mode, path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(f"{where}.credential_file: {path} cannot be read ({type(error).__name__})") from None
    if stat.S_IMODE(mode) & 0o077:
        raise StartError(f"{where}.credential_file: {path} may be read by others; allowed is chmod 600 (or 400)")
    secrets = text.split()
    if not 1 <= len(secrets) <= _MOST or not all(_SECRET.fullmatch(secret) for secret in secrets):
        raise StartError(
            f"{where}.credential_file: {path} holds no credentials; 1 to {_MOST} lines of 32 to 512 printable ASCII"
            " characters without spaces are expected"
        )
    return secrets


def tls_context(config: config_pb.KaskFront) -> ssl.SSLContext | None:
    """What the listeners speak; None without TLS. Raises StartError.

    With a client CA a certificate is asked for; callers that have a credential need none.
    """
    if not config.HasField("tls"):
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    load_pair(context, config)
    if config.tls.client_ca_file:
        by_credential = any(caller.credential_file for caller in config.callers)
        context.verify_mode = ssl.CERT_OPTIONAL if by_credential else ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(config.tls.client_ca_file)
        except (OSError, ValueError):
            raise StartError(
                f"kask.tls.client_ca_file: {config.tls.client_ca_file} cannot be read or holds no certificate in PEM"
            ) from None
    return context


def load_pair(context: ssl.SSLContext, config: config_pb.KaskFront) -> None:
    """The certificate and its key, for connections to come. Raises StartError."""
    certificate, key = config.tls.certificate_file, config.tls.key_file
    try:
        context.load_cert_chain(certificate, key, password="")
    except (OSError, ValueError):
        raise StartError(
            f"kask.tls: {key} is not the key of {certificate}, or one cannot be read or needs a password; a PEM"
            " certificate chain and its own key without a password are expected"
        ) from None


class Watch:
    """Takes in changed files: credentials, and the certificate with its key (a new client CA needs a restart)."""

    def __init__(self, config: config_pb.KaskFront, callers: Callers, context: ssl.SSLContext | None) -> None:
        self._config = config
        self._callers = callers
        self._context = context
        self._seen = _stamps(config)

    async def run(self) -> None:
        """Looks for ever."""
        while True:
            await asyncio.sleep(INTERVAL_S)
            await self.look()

    async def look(self) -> None:
        """Takes in what has changed since the last look, if all of it is good."""
        stamps = await asyncio.to_thread(_stamps, self._config)
        if stamps == self._seen:
            return
        try:
            found = await asyncio.to_thread(credentials, self._config)
            if self._context is not None:
                # Into a context of its own first: a pair half renewed must not replace one that is whole.
                await asyncio.to_thread(load_pair, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), self._config)
                load_pair(self._context, self._config)
        except StartError as error:
            log.warning("changed files are not taken", extra=fields(why=str(error)))
            return
        self._callers.credentials = found
        self._seen = stamps
        log.info("changed files are taken")


def _stamps(config: config_pb.KaskFront) -> Mapping[str, tuple[int, int] | None]:
    names = [caller.credential_file for caller in config.callers]
    names += [config.tls.certificate_file, config.tls.key_file] if config.HasField("tls") else []
    return {name: _stamp(name) for name in names if name}


def _stamp(name: str) -> tuple[int, int] | None:
    try:
        status = os.stat(name)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino
