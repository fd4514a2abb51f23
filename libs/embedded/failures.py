"""What can go wrong with a data directory, as typed errors, and the one place where the driver's text becomes one of
them.

    WellspringError
    ├── FailedPrecondition
    │   ├── DirectoryInUse     another process holds the directory
    │   └── WrongDirectory     not ours, of another service, or of another version
    ├── ResourceExhausted
    │   ├── DiskFull           the disk is full, or its reserve is reached
    │   └── QueueFull          more commits wait for the disk than the bound allows
    ├── Unavailable
    │   └── StoreUnavailable   cannot be opened, is closed, or stopped itself after a failed write
    └── DataLoss
        └── StoreDamaged       what was acknowledged cannot be read back

Messages are written for the operator and the caller. The driver's own text goes to the log and nowhere else.
"""

import logging

from libs.errors.errors import (
    DataLoss,
    FailedPrecondition,
    ResourceExhausted,
    Unavailable,
    WellspringError,
)

_log = logging.getLogger(__name__)

_FULL = (
    "No space left on device",
    "File too large",
    "Disk quota exceeded",
    "Space limit reached",
)
_DAMAGED = ("Corruption", "block checksum mismatch")
_REFUSED = ("Permission denied", "Read-only file system", "Operation not permitted")


class DirectoryInUse(FailedPrecondition):
    """The data directory is held by another process."""

    default_reason = "DATA_DIRECTORY_IN_USE"


class WrongDirectory(FailedPrecondition):
    """The directory is not a Wellspring data directory, or is one of another service or version."""

    default_reason = "DATA_DIRECTORY_WRONG"


class DiskFull(ResourceExhausted):
    """The disk has no room for the write. What was acknowledged before is kept."""

    default_reason = "DISK_FULL"


class QueueFull(ResourceExhausted):
    """More commits wait for the disk than the configured bound."""

    default_reason = "COMMIT_QUEUE_FULL"


class StoreUnavailable(Unavailable):
    """The store cannot be opened, is closed, or stopped taking writes after a failure of the disk."""

    default_reason = "STORE_UNAVAILABLE"


class StoreDamaged(DataLoss):
    """Data that was acknowledged cannot be read back."""

    default_reason = "STORE_DAMAGED"


def translate(error: BaseException, doing: str) -> WellspringError:
    """The typed error for what the driver or the operating system raised while ``doing`` (a phrase: "writing to
    /data").

    A WellspringError passes unchanged. The original text is logged, for it may name files and keys.
    """
    if isinstance(error, WellspringError):
        return error
    text = str(error)
    _log.error("embedded store: %s failed: %s: %s", doing, type(error).__name__, text)
    if any(word in text for word in _FULL):
        return DiskFull(
            f"{doing} failed: the disk is full; free space or move the data directory to a larger disk, then restart"
        )
    if any(word in text for word in _DAMAGED):
        return StoreDamaged(f"{doing} failed: stored data does not match its checksum; restore a backup")
    if any(word in text for word in _REFUSED):
        return StoreUnavailable(
            f"{doing} failed: the operating system refuses access; check the owner and mode of the directory"
        )
    return StoreUnavailable(
        f"{doing} failed: the disk or the store reported an error; its text is in the log of the service"
    )
