"""A certificate authority for tests."""

import dataclasses
import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


@dataclasses.dataclass
class Authority:
    """Signs certificates into ``folder``; its own is at ``certificate``."""

    folder: Path
    key: ec.EllipticCurvePrivateKey
    name: x509.Name
    certificate: Path

    def issue(self, common_name):
        """The paths of a new key and its certificate for ``common_name``."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
        builder = _builder(subject, self.name, key).add_extension(
            x509.SubjectAlternativeName([x509.DNSName(common_name)]), False
        )
        return _write(self.folder, common_name, key, builder.sign(self.key, hashes.SHA256()))


def make_authority(folder):
    """A new authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "authority")])
    builder = _builder(name, name, key).add_extension(x509.BasicConstraints(True, None), True)
    _, certificate = _write(folder, "authority", key, builder.sign(key, hashes.SHA256()))
    return Authority(folder, key, name, certificate)


def _builder(subject, issuer, key):
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))


def _write(folder, name, key, certificate):
    key_file, certificate_file = folder / f"{name}.key", folder / f"{name}.pem"
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return key_file, certificate_file
