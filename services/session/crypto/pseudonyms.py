"""What stands in a subject's place: in the store a keyed pseudonym, to each caller a form of its own."""

import base64
import hmac

from services.session.crypto.keyring import Keyring


def pseudonym(keyring: Keyring, realm: str, subject: str) -> bytes:
    """What the store keeps of a subject: 32 bytes, the same for the same subject of a realm."""
    return hmac.digest(
        keyring.active("pseudonym").secret, b"subject\0%b\0%b" % (realm.encode(), subject.encode()), "sha256"
    )


def pairwise(keyring: Keyring, realm: str, caller: str, stored: bytes) -> str:
    """What one caller sees of a subject: 22 characters that no other caller can match with theirs."""
    digest = hmac.digest(
        keyring.active("pairwise").secret, b"%b\0%b\0%b" % (realm.encode(), caller.encode(), stored), "sha256"
    )
    return base64.urlsafe_b64encode(digest[:16]).rstrip(b"=").decode()
