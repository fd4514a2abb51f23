"""What the library tells of failures, in our words.

WellspringError
├── Unavailable
│   ├── BrokersAway        no broker, or no leader, answers now: ask again
│   └── DeliveryUnknown    sent, and not acknowledged in time: it may be in the topic
├── FailedPrecondition
│   ├── Fenced             another client has taken this one's name, and writes in its place
│   ├── SessionRefused     the brokers do not allow members of a group that session timeout
│   ├── AccessRefused      the brokers refuse this client, or what it asks for
│   ├── TopicMissing       there is no such topic
│   └── TopicUnfit         the topic is not what it has to be: compacted, of another cluster, made anew
└── InvalidArgument
    └── MessageRefused     too large, or nothing that a topic takes
"""

from confluent_kafka import KafkaError

from libs.errors.errors import FailedPrecondition, InvalidArgument, Unavailable, WellspringError
from libs.kafka.logs import log

_RETRY_S = 0.5


class BrokersAway(Unavailable):
    """Nothing was done: no broker or no leader answers now."""

    default_reason = "KAFKA_UNAVAILABLE"


class DeliveryUnknown(Unavailable):
    """A message was sent and its acknowledgement did not come: it may be in the topic, or come there, or never."""

    default_reason = "OUTCOME_UNKNOWN"


class AccessRefused(FailedPrecondition):
    """The brokers know this client not, or do not let it."""

    default_reason = "KAFKA_ACCESS_REFUSED"


class Fenced(FailedPrecondition):
    """Another client writes under this one's name now, and this one nothing more."""

    default_reason = "KAFKA_FENCED"


class SessionRefused(FailedPrecondition):
    """The brokers bound the session timeout of a group's members otherwise."""

    default_reason = "KAFKA_SESSION_REFUSED"


class TopicMissing(FailedPrecondition):
    """There is no such topic, and none is made by use."""

    default_reason = "TOPIC_MISSING"


class TopicUnfit(FailedPrecondition):
    """A topic that would lose or mix up what is read from it."""

    default_reason = "TOPIC_UNFIT"


class MessageRefused(InvalidArgument):
    """A message that no topic, or not this one, takes."""

    default_reason = "MESSAGE_REFUSED"


_AUTHENTICATION = (KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED)
_TLS_ALERT = "SSL alert"
"""In the text of a lost connection whose other end refused this one's certificate: TLS 1.3 tells of that after the
handshake."""
_REFUSED = (
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
)
_MISSING = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION)
_BAD_MESSAGE = (
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.RECORD_LIST_TOO_LARGE,
    KafkaError.INVALID_RECORD,
    KafkaError.TOPIC_EXCEPTION,
)
_UNKNOWN_OUTCOME = (KafkaError._MSG_TIMED_OUT, KafkaError._PURGE_INFLIGHT, KafkaError.REQUEST_TIMED_OUT)


def refusal_of(error: KafkaError) -> AccessRefused | None:
    """What an error says of the login, or of the certificates; None: nothing."""
    code = error.code()
    if code == KafkaError._SSL or (code == KafkaError._TRANSPORT and _TLS_ALERT in error.str()):
        what = "TLS with the Kafka brokers failed"
    elif code in _AUTHENTICATION:
        what = "the Kafka brokers refuse the login"
    else:
        return None
    return AccessRefused(f"{what}: see the user, the password file and the certificates in the configuration")


def translate(error: KafkaError, topic: str = "", *, write: bool = False) -> WellspringError:
    """The error for who asked for something of the topic; `write` unless it only reads."""
    code = error.code()
    named = f"the topic {topic}" if topic else "a topic"
    refusal = refusal_of(error)
    if refusal is not None:
        return refusal
    if code in _REFUSED:
        return AccessRefused(f"the Kafka brokers do not let this user at {named}: an access rule (ACL) is missing")
    if code in _MISSING:
        return TopicMissing(f"{named} is not there; make it first, none is made by use")
    if code in _BAD_MESSAGE:
        return MessageRefused(f"{named} does not take the message: too large, or not valid there")
    if write and (code in _UNKNOWN_OUTCOME or error.fatal()):
        return DeliveryUnknown(f"{named} did not acknowledge a message in time", retry_after_s=_RETRY_S)
    log.info("a call of Kafka failed: %s", error.name())
    return BrokersAway("the Kafka brokers do not answer now", retry_after_s=_RETRY_S)
