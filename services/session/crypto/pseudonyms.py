"""What stands in a name's place: a subject's in the store and to each caller, a data key's in the store."""

import base64

from services.session.crypto.keyring import Keyring


def pseudonym(keyring: Keyring, realm: str, subject: str) -> bytes:
    """What the store keeps of a subject: 32 bytes, the same for the same subject of a realm."""
    return keyring.active("pseudonym").mac(b"subject\0%b\0%b" % (realm.encode(), subject.encode()))


def pairwise(keyring: Keyring, realm: str, caller: str, stored: bytes) -> str:
    """What one caller sees of a subject: 22 characters that no other caller can match with theirs."""
    digest = keyring.active("pairwise").mac(b"%b\0%b\0%b" % (realm.encode(), caller.encode(), stored))
    return base64.urlsafe_b64encode(digest[:16]).rstrip(b"=").decode()


def item_name(keyring: Keyring, realm: str, handle: str, name: str) -> bytes:
    """What the store keeps of the name of a session's value: 16 bytes, other ones in another session."""
    key = keyring.active("pseudonym")
    return key.mac(b"item\0%b\0%b\0%b" % (realm.encode(), handle.encode(), name.encode()))[:16]


def request_name(keyring: Keyring, realm: str, caller: str, verb: str, request_id: str) -> bytes:
    """What the store keeps of a request_id: 16 bytes, other ones for another caller or verb."""
    text = f"request\0{realm}\0{caller}\0{verb}\0{request_id}".encode()
    return keyring.active("pseudonym").mac(text)[:16]


def place_in_line(keyring: Keyring, realm: str, who: bytes, since_us: int) -> float:
    """A number in [0, 1) for somebody after one revocation of a realm; another one after the next."""
    text = b"place\0%b\0%d\0%b" % (realm.encode(), since_us, who)
    digest = keyring.active("pseudonym").mac(text)
    return int.from_bytes(digest[:6], "big") / (1 << 48)


def share(keyring: Keyring, handle: str) -> float:
    """A number in [0, 1) that belongs to the session and that nobody can predict: spreads expiries."""
    digest = keyring.active("pseudonym").mac(b"share\0" + handle.encode())
    return int.from_bytes(digest[:6], "big") / (1 << 48)
