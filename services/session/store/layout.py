"""Where the embedded store keeps what: families and keys. Each key begins with its realm and a NUL.

sessions    realm \\0 handle                      the session
items       realm \\0 handle kind name            sealed values
requests    realm \\0 handle kind name            remembered answers of updates, hints; \\0 name: remembered Creates
subjects    realm \\0 subject created handle      index, no value
tombstones  realm \\0 handle                      revocations of one session
epochs      realm \\0 [subject]                   revocations of all; they stay
revocations realm \\0 number                      what was revoked, in order
realms      name                                 policies
opaque      realm \\0 name                         values of opaque realms (opaque_embedded.py)
opaque_deleted  realm \\0 name                     what is left of deleted ones
notes       name                                 facts about the store itself
keys        realm \\0 subject                     (in a directory of its own) sealed subjects' keys
"""

from typing import Final

from libs.embedded.settings import FamilySpec
from services.session.domain.model import HINTS, REQUEST, SHARED_REQUEST, Session

HANDLE_CHARS: Final = 43
SUBJECT_BYTES: Final = 32
EXPIRING: Final = (REQUEST, SHARED_REQUEST, HINTS)

SESSION_FAMILIES: Final = [
    FamilySpec("sessions"),
    FamilySpec("items"),
    FamilySpec("requests"),
    FamilySpec("subjects"),
    FamilySpec("tombstones"),
    FamilySpec("epochs"),
    FamilySpec("revocations"),
    FamilySpec("realms"),
    FamilySpec("notes"),
    FamilySpec("opaque"),
    FamilySpec("opaque_deleted"),
]
KEY_FAMILIES: Final = [FamilySpec("keys")]


def realm_prefix(realm: str) -> bytes:
    """All of a realm."""
    return realm.encode() + b"\0"


def session_key(realm: str, handle: str) -> bytes:
    """A session's key, and the prefix of its items."""
    return f"{realm}\0{handle}".encode()


def subject_key(realm: str, subject: bytes) -> bytes:
    """A subject's epoch and key, and the prefix of its sessions in the index."""
    return realm_prefix(realm) + subject


def index_key(session: Session) -> bytes:
    """A session among its subject's, in the order of creation."""
    prefix = subject_key(session.realm, session.subject)
    return prefix + session.created_us.to_bytes(8, "big") + session.handle.encode()


def revocation_key(realm: str, number: int) -> bytes:
    """A revocation by its number."""
    return realm_prefix(realm) + number.to_bytes(8, "big")


def request_key(request: bytes) -> bytes:
    """A remembered Create: no realm's name is empty, so that it meets no update's."""
    return b"\0" + request


def split_key(key: bytes) -> tuple[str, str]:
    """Realm and handle of a session's key."""
    realm, _, handle = key.partition(b"\0")
    return realm.decode(), handle.decode()
