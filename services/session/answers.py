"""Sessions as their callers see them: public names and times, the subject in the caller's own form, never a secret."""

from collections.abc import Mapping

from google.protobuf.timestamp_pb2 import Timestamp

from services.session.crypto import pseudonyms
from services.session.crypto.keyring import Keyring
from services.session.domain.model import Session
from services.session.domain.operations import Value
from services.session.domain.policy import Policy
from services.session.domain.validity import ends_us
from wellspring.session.v1 import session_pb2 as pb


def time(us: int) -> Timestamp:
    """A Timestamp of microseconds."""
    seconds, rest = divmod(us, 1_000_000)
    return Timestamp(seconds=seconds, nanos=rest * 1000)


def _set_time(at: Timestamp, us: int) -> None:
    """The same, written in its place."""
    at.seconds, at.nanos = us // 1_000_000, us % 1_000_000 * 1000


def session(keyring: Keyring, policy: Policy, caller: str, given: Session) -> pb.Session:
    """The public side of a session, for one caller."""
    anonymous = given.anonymous
    answer = pb.Session(
        realm=given.realm, handle=given.handle, home=given.home, anonymous=anonymous, bound=bool(given.bind)
    )
    _set_time(answer.create_time, given.created_us)
    _set_time(answer.last_active_time, given.active_us)
    absolute_us, idle_us = ends_us(given, policy)
    _set_time(answer.idle_expire_time, idle_us)
    _set_time(answer.absolute_expire_time, absolute_us)
    if not anonymous:
        answer.subject = pseudonyms.pairwise(keyring, given.realm, caller, given.subject)
        assurance = answer.assurance
        assurance.level = given.level
        assurance.methods.extend(given.methods)
        _set_time(assurance.auth_time, given.auth_us)
    return answer


def put_values(into: "Mapping[str, pb.DataValue]", values: Mapping[str, Value]) -> None:
    """Data with its versions."""
    for key, (value, version) in values.items():
        into[key].value = value
        into[key].version = version
