"""Sessions as their callers see them: public names and times, the subject in the caller's own form, never a secret."""

from collections.abc import Mapping

from google.protobuf.timestamp_pb2 import Timestamp

from services.session.crypto import pseudonyms
from services.session.crypto.keyring import Keyring
from services.session.domain.model import Session
from services.session.domain.operations import Value
from services.session.domain.policy import Policy
from services.session.domain.validity import absolute_end_us, idle_end_us
from wellspring.session.v1 import session_pb2 as pb


def time(us: int) -> Timestamp:
    """A Timestamp of microseconds."""
    seconds, rest = divmod(us, 1_000_000)
    return Timestamp(seconds=seconds, nanos=rest * 1000)


def session(keyring: Keyring, policy: Policy, caller: str, given: Session) -> pb.Session:
    """The public side of a session, for one caller."""
    anonymous = given.anonymous
    answer = pb.Session(
        realm=given.realm,
        handle=given.handle,
        create_time=time(given.created_us),
        last_active_time=time(given.active_us),
        idle_expire_time=time(idle_end_us(given, policy)),
        absolute_expire_time=time(absolute_end_us(given, policy)),
        home=given.home,
        anonymous=anonymous,
        bound=bool(given.bind),
    )
    if not anonymous:
        answer.subject = pseudonyms.pairwise(keyring, given.realm, caller, given.subject)
        answer.assurance.level = given.level
        answer.assurance.methods.extend(given.methods)
        answer.assurance.auth_time.CopyFrom(time(given.auth_us))
    return answer


def put_values(into: "Mapping[str, pb.DataValue]", values: Mapping[str, Value]) -> None:
    """Data with its versions."""
    for key, (value, version) in values.items():
        into[key].value = value
        into[key].version = version
