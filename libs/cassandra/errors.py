"""What the driver raises, in our words: a caller never sees a driver's text, and an ambiguous write says that it is."""

import logging
from typing import Final

from cassandra import (
    AuthenticationFailed,
    ConsistencyLevel,
    OperationTimedOut,
    ReadFailure,
    ReadTimeout,
    RequestExecutionException,
    Unauthorized,
    WriteFailure,
    WriteTimeout,
)
from cassandra import Unavailable as TooFewReplicas
from cassandra.cluster import NoHostAvailable
from cassandra.connection import ConnectionException
from cassandra.protocol import IsBootstrappingErrorMessage, OverloadedErrorMessage

from libs.errors.errors import Internal, Unavailable, WellspringError

logger = logging.getLogger(__name__)

_RETRY_S: Final = 0.5
_SERIAL: Final = (ConsistencyLevel.SERIAL, ConsistencyLevel.LOCAL_SERIAL)


class OutcomeUnknown(Unavailable):
    """A write was sent and its answer did not come: it may have happened, happen later, or never."""

    default_reason = "OUTCOME_UNKNOWN"


def translate(error: Exception, *, write: bool, conditional: bool = False) -> WellspringError:
    """The error for the caller of a statement that failed with `error`; `write` unless the statement only reads,
    `conditional` when it has an IF."""
    if isinstance(error, WellspringError):
        return error
    if isinstance(error, TooFewReplicas) and conditional and error.consistency not in _SERIAL:
        return unknown()  # it was decided, and then found too few replicas that take what was decided
    if isinstance(error, TooFewReplicas):
        return Unavailable("too few replicas of the store are up for this consistency", retry_after_s=_RETRY_S)
    if isinstance(error, OverloadedErrorMessage | IsBootstrappingErrorMessage):
        return Unavailable("the store is overloaded or starting", retry_after_s=_RETRY_S)
    if isinstance(error, NoHostAvailable):
        # Raised before anything was sent, or after each host refused: unless one of them lost it on the way.
        tried = list(error.errors.values()) if isinstance(error.errors, dict) else []
        if write and any(_lost(one) for one in tried):
            return unknown()
        return Unavailable("no node of the store can be reached", retry_after_s=_RETRY_S)
    if isinstance(error, WriteTimeout | WriteFailure):
        return unknown()
    if isinstance(error, ReadTimeout | ReadFailure):
        return Unavailable("the replicas of the store did not answer in time", retry_after_s=_RETRY_S)
    if isinstance(error, OperationTimedOut | ConnectionException):
        if write:
            return unknown()
        return Unavailable("the store did not answer in time", retry_after_s=_RETRY_S)
    if isinstance(error, Unauthorized | AuthenticationFailed):
        logger.error("the store refuses this service's user", exc_info=error)
        return Unavailable("the store refuses this service", reason="STORE_DENIED")
    logger.error("a statement failed", exc_info=error)
    if isinstance(error, RequestExecutionException):
        return unknown() if write else Unavailable("the store failed to answer", retry_after_s=_RETRY_S)
    return Internal("the store did not understand this service")


def _lost(error: object) -> bool:
    return isinstance(error, OperationTimedOut | ConnectionException | WriteTimeout | WriteFailure)


def unknown() -> OutcomeUnknown:
    """What is said of a write that may have happened."""
    return OutcomeUnknown(
        "the store did not say in time whether the write happened; send the same write again, with its token",
        retry_after_s=_RETRY_S,
    )
