"""Why a cluster cannot be opened, by the setting that says otherwise: what the driver says of it is for nobody's eyes.

The driver makes of what was wrong with a certificate an error of the operating system, of which only the text is left.
"""

import ssl
from collections.abc import Collection, Iterator
from typing import Any, Final

from cassandra import AuthenticationFailed
from cassandra.connection import ConnectionShutdown

from libs.cassandra.options import Options
from libs.errors.errors import Unavailable

UNREACHABLE: Final = "STORE_UNREACHABLE"
DENIED: Final = "STORE_DENIED"

_TIMES: Final = ("certificate has expired", "certificate is not yet valid")
_NAMES: Final = ("Hostname mismatch", "IP address mismatch")
_FOREIGN: Final = ("CERTIFICATE_VERIFY_FAILED",)
_APART: Final = ("ALERT_PROTOCOL_VERSION", "ALERT_HANDSHAKE_FAILURE", "NO_PROTOCOLS_AVAILABLE", "UNSUPPORTED_PROTOCOL")
_OWN_TIME: Final = ("ALERT_CERTIFICATE_EXPIRED",)
_OWN_MISSING: Final = ("ALERT_CERTIFICATE_REQUIRED",)
_OWN: Final = ("_ALERT_",)
_NO_TLS: Final = ("[SSL",)
_IDENTITY: Final = "tls.certificate_file, tls.key_file"
_BROKEN_OFF: Final = (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError, ConnectionShutdown)


def refusal(error: Exception, options: Options, datacentres: Collection[str], *, keyspace: bool) -> Unavailable:
    """The error for a cluster of which opening ended with ``error``. ``datacentres``: those that it has told by then;
    ``keyspace``: it was asked for, too."""
    places = ", ".join(f"{host}:{port}" for host, port in options.contact_points)
    what = f"keyspace {options.keyspace!r} of the " if keyspace else ""
    why, reason = _why(error, options, datacentres)
    return Unavailable(
        f"the {what}Cassandra cluster at {places} cannot be opened (local data centre {options.local_datacentre!r}):"
        f" {why}",
        reason=reason,
    )


def _why(error: Exception, options: Options, datacentres: Collection[str]) -> tuple[str, str]:
    found = list(_causes(error))
    for one in found:
        told = _login(one, options) or _tls(one, options)
        if told is not None:
            return told
    if datacentres and options.local_datacentre not in datacentres:
        what = f"local_datacentre: there is no {options.local_datacentre!r}; there is {', '.join(sorted(datacentres))}"
        return what, UNREACHABLE
    if any(isinstance(one, _BROKEN_OFF) for one in found):
        if options.tls is None:
            return "tls: a node breaks off connections without it; where nodes want TLS it must be set", UNREACHABLE
        # It has said why, but what is sent meanwhile may be the first to fail.
        return f"{_IDENTITY}: a node breaks off: it does not trust this certificate, or asks for one", DENIED
    return "it must run, know that data centre and this user, and have had its migrations", UNREACHABLE


def _login(error: Exception, options: Options) -> tuple[str, str] | None:
    if not isinstance(error, AuthenticationFailed):
        return None
    if not options.username:
        return "username, password_file: it asks for a user and the password, and there are none", DENIED
    return f"username, password_file: it refuses the user {options.username!r} with this password", DENIED


def _tls(error: Exception, options: Options) -> tuple[str, str] | None:
    text = str(error)
    if "SSL" not in text or not isinstance(error, OSError):
        return None
    expected = repr(options.tls_server_name) if options.tls_server_name else "the address that it is at"
    own = f"{_IDENTITY}: a node"
    for marks, why, reason in (
        (_TIMES, "tls.ca_file: a node's certificate is not valid at this time", UNREACHABLE),
        (_NAMES, f"tls.server_name: a node's certificate does not carry {expected}", UNREACHABLE),
        (_FOREIGN, "tls.ca_file: a node's certificate is not signed by one of it", UNREACHABLE),
        (_APART, "tls: nodes and this service have no version or cipher in common; TLS 1.2 is the least", UNREACHABLE),
        (_OWN_MISSING, f"{own} asks for a certificate, and there is none", DENIED),
        (_OWN_TIME, f"{own} says that this certificate is not valid at this time", DENIED),
        (_OWN, f"{own} does not trust this certificate", DENIED),
        (_NO_TLS, "tls: what listens there does not speak TLS", UNREACHABLE),
    ):
        if any(mark in text for mark in marks):
            return why, reason
    return None


def _causes(error: Exception) -> Iterator[Exception]:
    """What became of each node that was tried, and the error itself."""
    tried: Any = getattr(error, "errors", None)
    if isinstance(tried, dict):
        yield from tried.values()
    yield error
