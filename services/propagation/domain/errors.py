"""The errors of propagation, with the reasons that its contract names.

WellspringError
├── InvalidArgument
│   ├── ResourceInvalid        RESOURCE_INVALID
│   ├── AspectInvalid          ASPECT_INVALID
│   ├── VersionInvalid         VERSION_INVALID
│   ├── ChangeIdInvalid        CHANGE_ID_INVALID
│   ├── SelfDependency         SELF_DEPENDENCY
│   ├── TooManyDependencies    TOO_MANY_DEPENDENCIES
│   └── BatchInvalid           BATCH_INVALID      packed fields of a work call that do not fit together
├── NotFound
│   ├── ViewNotFound           VIEW_NOT_FOUND
│   ├── ResourceNotFound       RESOURCE_NOT_FOUND
│   └── ChangeNotFound         CHANGE_NOT_FOUND
├── AlreadyExists
│   └── ChangeIdReused         CHANGE_ID_REUSED
├── FailedPrecondition
│   └── RootFinished           ROOT_FINISHED
├── Aborted
│   ├── Fenced                 FENCED
│   ├── LeaseExpired           LEASE_EXPIRED
│   └── RevisionMismatch       REVISION_MISMATCH
└── Unavailable
    └── IntakeFull             INTAKE_FULL
"""

from libs.errors.errors import Aborted, AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, Unavailable


class ResourceInvalid(InvalidArgument):
    """A name that no resource may have."""

    default_reason = "RESOURCE_INVALID"


class AspectInvalid(InvalidArgument):
    """A name that no aspect may have, or too many of them."""

    default_reason = "ASPECT_INVALID"


class VersionInvalid(InvalidArgument):
    """A version that is not 16 bytes."""

    default_reason = "VERSION_INVALID"


class ChangeIdInvalid(InvalidArgument):
    """An id that no change may have."""

    default_reason = "CHANGE_ID_INVALID"


class SelfDependency(InvalidArgument):
    """A dependent that names its own output in the same view as its input."""

    default_reason = "SELF_DEPENDENCY"


class TooManyDependencies(InvalidArgument):
    """A set above the view's limit."""

    default_reason = "TOO_MANY_DEPENDENCIES"


class BatchInvalid(InvalidArgument):
    """Packed fields that do not fit together, or name items that the lease does not hold."""

    default_reason = "BATCH_INVALID"


class ViewNotFound(NotFound):
    """No view has this name."""

    default_reason = "VIEW_NOT_FOUND"


class ResourceNotFound(NotFound):
    """Nothing ever changed or depended under this name."""

    default_reason = "RESOURCE_NOT_FOUND"


class ChangeNotFound(NotFound):
    """No change with this id was accepted, or it is older than the window of remembrance."""

    default_reason = "CHANGE_NOT_FOUND"


class ChangeIdReused(AlreadyExists):
    """The id belongs to another change."""

    default_reason = "CHANGE_ID_REUSED"


class RootFinished(FailedPrecondition):
    """Nothing is left to pause, resume, cancel or move."""

    default_reason = "ROOT_FINISHED"


class Fenced(Aborted):
    """The lease belongs to an earlier life of the engine, or to somebody else."""

    default_reason = "FENCED"


class LeaseExpired(Aborted):
    """The lease ended before its completion; its items were given back."""

    default_reason = "LEASE_EXPIRED"


class RevisionMismatch(Aborted):
    """The views were changed by somebody else since they were read."""

    default_reason = "REVISION_MISMATCH"


class IntakeFull(Unavailable):
    """The engine's bound on unfinished roots is reached; publish again later."""

    default_reason = "INTAKE_FULL"
