"""What stands in a name's place: a subject's in the store and to each caller, a data key's in the store."""

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


def item_name(keyring: Keyring, realm: str, handle: str, name: str) -> bytes:
    """What the store keeps of the name of a session's value: 16 bytes, other ones in another session."""
    key = keyring.active("pseudonym").secret
    return hmac.digest(key, b"item\0%b\0%b\0%b" % (realm.encode(), handle.encode(), name.encode()), "sha256")[:16]


def request_name(keyring: Keyring, realm: str, caller: str, verb: str, request_id: str) -> bytes:
    """What the store keeps of a request_id: 16 bytes, other ones for another caller or verb."""
    parts = (realm, caller, verb, request_id)
    text = b"request\0" + b"\0".join(part.encode() for part in parts)
    return hmac.digest(keyring.active("pseudonym").secret, text, "sha256")[:16]


def place_in_line(keyring: Keyring, realm: str, who: bytes, since_us: int) -> float:
    """A number in [0, 1) for somebody after one revocation of a realm; another one after the next."""
    text = b"place\0%b\0%d\0%b" % (realm.encode(), since_us, who)
    digest = hmac.digest(keyring.active("pseudonym").secret, text, "sha256")
    return int.from_bytes(digest[:6], "big") / (1 << 48)


def share(keyring: Keyring, handle: str) -> float:
    """A number in [0, 1) that belongs to the session and that nobody can predict: spreads expiries."""
    digest = hmac.digest(keyring.active("pseudonym").secret, b"share\0" + handle.encode(), "sha256")
    return int.from_bytes(digest[:6], "big") / (1 << 48)
