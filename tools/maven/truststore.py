"""A Java trust store made of the machine's own certificate authorities.

A Java runtime unpacked from Debian's package has none: there an installation script makes it. Without one Maven could
verify no server. The format is "JKS", Java's first key store, as the JDK's sun.security.provider.JavaKeyStore reads it:
big-endian; magic, version 2, entry count; per certificate: tag 2, alias, creation time in ms, type, length, DER; at the
end SHA-1 over the password in UTF-16, a fixed phrase, and everything before.
"""

from __future__ import annotations

import hashlib
import ssl
import struct
from pathlib import Path

PASSWORD = "changeit"  # noqa: S105 (Java's customary one: a trust store holds nothing secret)
BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
_MAGIC = 0xFEEDFEED
_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


def certificates(pem: str) -> list[bytes]:
    """The DER form of each certificate in the PEM text `pem`."""
    parts = pem.split(_BEGIN)[1:]
    return [ssl.PEM_cert_to_DER_cert(_BEGIN + part.split(_END)[0] + _END) for part in parts]


def encode(ders: list[bytes], password: str = PASSWORD) -> bytes:
    """A JKS trust store that holds the certificates `ders`."""
    body = struct.pack(">III", _MAGIC, 2, len(ders))
    for number, der in enumerate(ders):
        body += struct.pack(">I", 2) + _text(f"ca{number}") + struct.pack(">Q", 0)
        body += _text("X.509") + struct.pack(">I", len(der)) + der
    # The format prescribes SHA-1 and the phrase.
    digest = hashlib.sha1(password.encode("utf-16-be") + b"Mighty Aphrodite" + body)  # noqa: S324
    return body + digest.digest()


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack(">H", len(data)) + data


def write(path: Path) -> bool:
    """Writes the trust store to `path`; False when the machine has no bundle of authorities."""
    bundle = next((Path(b) for b in BUNDLES if Path(b).exists()), None)
    if bundle is None:
        return False
    path.write_bytes(encode(certificates(bundle.read_text(encoding="ascii", errors="replace"))))
    return True
