"""What can go wrong with a request to storage, as one tree.

WellspringError
├── InvalidArgument
│   ├── ValueTooLarge           VALUE_TOO_LARGE          an inline value above its limit: Upload it
│   ├── ClockDrift              CLOCK_DRIFT              the token's time is too far from the server's clock
│   ├── ExportInvalid           EXPORT_INVALID           what is to be imported is no export, or of another release
│   └── PageTokenInvalid        PAGE_TOKEN_INVALID       forged, of another request, or of another server's key
├── NotFound
│   ├── NamespaceNotFound       NAMESPACE_NOT_FOUND      no such namespace, or none that the caller may see
│   ├── ItemNotFound            ITEM_NOT_FOUND           a delete, undelete or download of nothing
│   ├── VersionNotFound         VERSION_NOT_FOUND        the delete to take back is not known (any more)
│   ├── SnapshotNotFound        SNAPSHOT_NOT_FOUND       no snapshot of that name
│   └── OperationNotFound       OPERATION_NOT_FOUND      no such operation, or ended long ago
├── AlreadyExists
│   ├── NamespaceExists         NAMESPACE_EXISTS         with other settings
│   ├── SnapshotExists          SNAPSHOT_EXISTS          the name of a snapshot is taken
│   └── TokenReused             TOKEN_REUSED             the token came with another body before
├── Aborted
│   ├── ConditionFailed         CONDITION_FAILED         metadata "etag" (the current one) and "index"
│   └── NamespaceChanged        NAMESPACE_CHANGED        the etag given is not the current one
├── FailedPrecondition
│   ├── NamespaceDeleted        NAMESPACE_DELETED        in its grace period, before it is gone
│   ├── NamespaceRestoring      NAMESPACE_RESTORING      before all of a snapshot is in it
│   ├── SnapshotInUse           SNAPSHOT_IN_USE          a restore reads the snapshot to be deleted
│   ├── BackupsNotConfigured    BACKUPS_NOT_CONFIGURED   the server has no folder for snapshots
│   ├── ModeMismatch            MODE_MISMATCH            a condition that the namespace's mode does not have
│   └── ValueChunked            VALUE_CHUNKED            the value lies in chunks: Download it
├── PermissionDenied
│   └── AccessDenied            ACCESS_DENIED            the namespace lets the caller read, not write (or the reverse)
├── OutOfRange
│   ├── ResumeTokenExpired      RESUME_TOKEN_EXPIRED     the feed no longer reaches back so far
│   └── OffsetOutOfRange        OFFSET_OUT_OF_RANGE      a download that begins after the value's end
├── ResourceExhausted
│   ├── QuotaExceeded           QUOTA_EXCEEDED           the namespace's bytes, records or rate are spent
│   ├── OperationsExhausted     OPERATIONS_EXHAUSTED     as many operations or exports are under way as may
│   ├── RangeDeletesExhausted   RANGE_DELETES_EXHAUSTED  one LWW record has too many range deletes in its grace
│   └── BatchBudgetSpent        BATCH_BUDGET_SPENT       of a batch's answer: ask again for the rest
├── Unavailable
│   ├── NamespaceBusy           NAMESPACE_BUSY           too many requests of the namespace in flight
│   └── ConsistencyUnavailable  CONSISTENCY_UNAVAILABLE  this server cannot show what was asked for
└── DataLoss
    └── ChecksumMismatch        CHECKSUM_MISMATCH        stored or sent bytes are not what their checksum says
"""

from libs.errors.errors import (
    Aborted,
    AlreadyExists,
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    OutOfRange,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
)


class ValueTooLarge(InvalidArgument):
    """An inline value above the limit."""

    default_reason = "VALUE_TOO_LARGE"


class ClockDrift(InvalidArgument):
    """The token's time is further from the server's clock than the namespace allows."""

    default_reason = "CLOCK_DRIFT"


class PageTokenInvalid(InvalidArgument):
    """A page, resume or cookie token that is not ours, or not of this request."""

    default_reason = "PAGE_TOKEN_INVALID"


class ExportInvalid(InvalidArgument):
    """What is to be imported or restored is no export, or none that this release reads."""

    default_reason = "EXPORT_INVALID"


class NamespaceNotFound(NotFound):
    """No such namespace, or none that the caller may see: the two answer alike."""

    default_reason = "NAMESPACE_NOT_FOUND"

    @classmethod
    def named(cls, name: str) -> "NamespaceNotFound":
        """The error for the namespace ``name``."""
        return cls(
            f"there is no namespace {name!r}; ListNamespaces names those there are", metadata={"namespace": name}
        )


class SnapshotNotFound(NotFound):
    """No snapshot of that name."""

    default_reason = "SNAPSHOT_NOT_FOUND"


class OperationNotFound(NotFound):
    """No operation of that name, or one that ended more than 30 days ago."""

    default_reason = "OPERATION_NOT_FOUND"


class ItemNotFound(NotFound):
    """Nothing matches what a delete, an undelete or a download names."""

    default_reason = "ITEM_NOT_FOUND"


class VersionNotFound(NotFound):
    """The delete to take back is not known, or its undelete window is over."""

    default_reason = "VERSION_NOT_FOUND"


class NamespaceExists(AlreadyExists):
    """A namespace of this name exists with other settings."""

    default_reason = "NAMESPACE_EXISTS"


class SnapshotExists(AlreadyExists):
    """A snapshot of this name exists."""

    default_reason = "SNAPSHOT_EXISTS"


class TokenReused(AlreadyExists):
    """The token was used with another body."""

    default_reason = "TOKEN_REUSED"


class ConditionFailed(Aborted):
    """A condition does not hold. ``etag`` is the current one (empty: nothing is there), ``index`` the mutation's, or
    -1 for the condition of the record."""

    default_reason = "CONDITION_FAILED"

    def __init__(self, etag: str, index: int) -> None:
        where = "the record's condition" if index < 0 else f"the condition of mutations[{index}]"
        there = f"its etag is {etag}" if etag else "nothing is there"
        super().__init__(
            f"{where} does not hold: {there}; read again, then decide", metadata={"etag": etag, "index": str(index)}
        )
        self.etag = etag
        self.index = index


class NamespaceChanged(Aborted):
    """The namespace's etag is not the one given."""

    default_reason = "NAMESPACE_CHANGED"


class NamespaceDeleted(FailedPrecondition):
    """The namespace is in its grace period before it is gone."""

    default_reason = "NAMESPACE_DELETED"


class NamespaceRestoring(FailedPrecondition):
    """Not all of the snapshot is in the namespace yet."""

    default_reason = "NAMESPACE_RESTORING"


class SnapshotInUse(FailedPrecondition):
    """A restore reads the snapshot."""

    default_reason = "SNAPSHOT_IN_USE"


class BackupsNotConfigured(FailedPrecondition):
    """The server has no folder for snapshots, exports and imports."""

    default_reason = "BACKUPS_NOT_CONFIGURED"


class ModeMismatch(FailedPrecondition):
    """A condition that the namespace's mode does not have, or an import of another mode."""

    default_reason = "MODE_MISMATCH"


class DeleteTooLarge(FailedPrecondition):
    """One delete selects more items than the service takes out at once."""

    default_reason = "DELETE_TOO_LARGE"


class AccessDenied(PermissionDenied):
    """The namespace's callers let this identity read but not write, or write but not read."""

    default_reason = "ACCESS_DENIED"


class ResumeTokenExpired(OutOfRange):
    """The feed no longer reaches back to the resume token: scan, then watch anew."""

    default_reason = "RESUME_TOKEN_EXPIRED"


class OffsetOutOfRange(OutOfRange):
    """A download that begins after the end of the value."""

    default_reason = "OFFSET_OUT_OF_RANGE"


class QuotaExceeded(ResourceExhausted):
    """The namespace's quota is spent."""

    default_reason = "QUOTA_EXCEEDED"


class OperationsExhausted(ResourceExhausted):
    """As many operations, or exports, are under way as may."""

    default_reason = "OPERATIONS_EXHAUSTED"


class RangeDeletesExhausted(ResourceExhausted):
    """A record of an LWW namespace has as many range deletes in their grace period as it may."""

    default_reason = "RANGE_DELETES_EXHAUSTED"


class BatchBudgetSpent(ResourceExhausted):
    """The batch's answer has reached its size: this part was not read."""

    default_reason = "BATCH_BUDGET_SPENT"


class NamespaceBusy(Unavailable):
    """As many requests of the namespace are in flight as may."""

    default_reason = "NAMESPACE_BUSY"


class ConsistencyUnavailable(Unavailable):
    """This server cannot show the state that was asked for."""

    default_reason = "CONSISTENCY_UNAVAILABLE"


class ChecksumMismatch(DataLoss):
    """Stored or sent bytes are not what their checksum says."""

    default_reason = "CHECKSUM_MISMATCH"
