"""Requests read and checked: what no state could make right is refused here, by the field's path."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from libs.errors.errors import InvalidArgument
from services.session.crypto import dpop
from services.session.domain.creating import Assurance, Client
from services.session.domain.operations import Operation, check, check_key
from services.session.domain.proofs import Proof
from services.session.domain.validating import ALL, check_data_keys
from wellspring.session.v1 import session_pb2 as pb

MAX_SUBJECT_BYTES: Final = 256
MAX_METHODS: Final = 8
MAX_METHOD_CHARS: Final = 32
MAX_REASON_CHARS: Final = 256
MAX_AUDIENCE_CHARS: Final = 256
MAX_WANTED_KEYS: Final = 1000
MAX_HINT_CHARS: Final = 1024
MAX_PROOF_CHARS: Final = 4096
MAX_URI_CHARS: Final = 2048
DEFAULT_PAGE: Final = 50
MAX_PAGE: Final = 500
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_KEY_ID: Final = re.compile(r"[a-z]{1,16}-[0-9]{1,3}")
_DATACENTRE: Final = re.compile(r"[a-z][a-z0-9-]{0,31}")
_HANDLE: Final = re.compile(r"[A-Za-z0-9_-]{43}")


def request_id(text: str) -> str:
    """A UUID in its usual form."""
    lower = text.lower()
    if _UUID.fullmatch(lower) is None:
        raise InvalidArgument.field("request_id", "a UUID is expected: 8-4-4-4-12 hexadecimal digits")
    return lower


def handle(text: str) -> str:
    """A session's public name."""
    if _HANDLE.fullmatch(text) is None:
        raise InvalidArgument.field("handle", "is not of a handle's form: 43 characters, as Session.handle has them")
    return text


def key_id(text: str) -> str:
    """The name of a key of the keyring."""
    if _KEY_ID.fullmatch(text) is None:
        raise InvalidArgument.field("key_id", 'a key\'s name is expected, as ListKeys has it: "seal-2"')
    return text


def subject(text: str, *, required: bool) -> str:
    """Somebody's name; empty where that is allowed."""
    if required and not text:
        raise InvalidArgument.field("subject", f"is empty; 1 to {MAX_SUBJECT_BYTES} bytes are allowed")
    if len(text.encode()) > MAX_SUBJECT_BYTES:
        raise InvalidArgument.field("subject", f"at most {MAX_SUBJECT_BYTES} bytes are allowed")
    return text


def assurance(given: pb.Assurance, *, anonymous: bool = False) -> Assurance:
    """How surely somebody was authenticated; of an anonymous session nothing can be said."""
    if anonymous:
        if given.level or given.methods or given.HasField("auth_time"):
            raise InvalidArgument.field("assurance", "an anonymous session has none: name the subject, or leave it out")
        return Assurance(0, (), 0)
    if not 1 <= given.level <= 3:
        raise InvalidArgument.field("assurance.level", f"is {given.level}; 1 to 3 are allowed")
    methods = tuple(given.methods)
    if len(methods) > MAX_METHODS:
        raise InvalidArgument.field("assurance.methods", f"at most {MAX_METHODS} are allowed")
    for at, method in enumerate(methods):
        if not 1 <= len(method) <= MAX_METHOD_CHARS or not method.isprintable():
            what = f"1 to {MAX_METHOD_CHARS} printable characters are allowed"
            raise InvalidArgument.field(f"assurance.methods[{at}]", what)
    auth_us = micros(given.auth_time, "assurance.auth_time") if given.HasField("auth_time") else 0
    return Assurance(given.level, methods, auth_us)


def micros(time: Timestamp, path: str) -> int:
    """Microseconds since 1970, more than none."""
    us = time.seconds * 1_000_000 + time.nanos // 1000
    if us <= 0 or time.seconds > 253_402_300_799:
        raise InvalidArgument.field(path, "is not a time between 1970 and 9999")
    return us


def values(given: Mapping[str, bytes], path: str) -> dict[str, bytes]:
    """Data by key."""
    read = dict(given)
    for key in read:
        check_key(key, f"{path}[key]")
    return read


def operations(given: Sequence[pb.DataOperation]) -> list[Operation]:
    """Changes of data."""
    read = [_operation(one, f"operations[{at}]") for at, one in enumerate(given)]
    check(read)
    return read


def _operation(given: pb.DataOperation, path: str) -> Operation:
    kind = given.WhichOneof("kind")
    version = given.if_version if given.HasField("if_version") else None
    if kind == "set":
        return Operation(given.key, set=given.set, if_version=version)
    if kind == "set_once":
        return Operation(given.key, set=given.set_once, once=True, if_version=version)
    if kind == "add":
        return Operation(given.key, add=given.add, if_version=version)
    if kind == "remove" and given.remove:
        return Operation(given.key, if_version=version)
    raise InvalidArgument.field(path, "one of set, remove (true), add, set_once is expected")


def wanted_keys(given: Sequence[str], path: str) -> list[str]:
    """Keys of data to answer."""
    if len(given) > MAX_WANTED_KEYS:
        raise InvalidArgument.field(path, f"at most {MAX_WANTED_KEYS} are allowed")
    check_data_keys(given)
    return [ALL] if ALL in given else list(given)


def audience(text: str, path: str) -> str:
    """For whom an assertion is."""
    if not 1 <= len(text) <= MAX_AUDIENCE_CHARS or not text.isprintable():
        raise InvalidArgument.field(path, f"1 to {MAX_AUDIENCE_CHARS} printable characters are expected")
    return text


def page_size(given: int) -> int:
    """How many to answer at most; 0 for the default, more than allowed counts as the most allowed (AIP-158)."""
    if given < 0:
        raise InvalidArgument.field("page_size", "is negative")
    return min(given or DEFAULT_PAGE, MAX_PAGE)


def reason(text: str) -> str:
    """Why something is revoked, in the caller's words."""
    if len(text) > MAX_REASON_CHARS:
        raise InvalidArgument.field("reason", f"at most {MAX_REASON_CHARS} characters are allowed")
    return text


def client(hints: pb.ClientHints, thumbprint: str) -> Client:
    """What is told of the client of a new session."""
    bind = b""
    if thumbprint:
        read = dpop.thumbprint_of(thumbprint)
        if read is None:
            what = "a thumbprint of RFC 7638 by SHA-256 is expected: 43 characters of base64url"
            raise InvalidArgument.field("bind_key_thumbprint", what)
        bind = read
    for name, text in (("address", hints.address), ("user_agent", hints.user_agent)):
        if len(text) > MAX_HINT_CHARS:
            raise InvalidArgument.field(f"client_hints.{name}", f"at most {MAX_HINT_CHARS} characters are allowed")
    return Client(hints.address, hints.user_agent, bind)


def proof(given: pb.Proof, there: bool, retry: str = "") -> Proof | None:
    """A proof of possession, of a JWT's form; whether it is good depends on the session. `there`: whether one came."""
    if not there:
        return None
    if len(given.jwt) > MAX_PROOF_CHARS or not dpop.is_formed(given.jwt):
        what = f"is not of a proof's form: a JWT of at most {MAX_PROOF_CHARS} characters, as RFC 9449 has it"
        raise InvalidArgument.field("proof.jwt", what)
    if not given.http_method or len(given.http_method) > MAX_METHOD_CHARS:
        raise InvalidArgument.field("proof.http_method", f"1 to {MAX_METHOD_CHARS} characters are allowed")
    if not given.http_uri or len(given.http_uri) > MAX_URI_CHARS:
        raise InvalidArgument.field("proof.http_uri", f"1 to {MAX_URI_CHARS} characters are allowed")
    return Proof(given.jwt, given.http_method, given.http_uri, retry)


def datacentre(text: str) -> str:
    """The name of a data centre."""
    if _DATACENTRE.fullmatch(text) is None:
        raise InvalidArgument.field("datacentre", "1 to 32 of a-z, 0-9, - are allowed, beginning with a letter")
    return text
