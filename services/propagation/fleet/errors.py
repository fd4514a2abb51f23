"""The errors of a fleet, beside those of its shards.

WellspringError
├── Aborted
│   └── ShardNotHere   SHARD_NOT_HERE   between engines: another one leads the shard
├── FailedPrecondition
│   └── NotTheFirstShard  NOT_THE_FIRST_SHARD  what the first shard alone has was asked of another one
└── Unavailable
    └── ShardAway      SHARD_AWAY       no engine leads the shard now, or it is not reached
"""

from libs.errors.errors import Aborted, FailedPrecondition, Unavailable


class ShardNotHere(Aborted):
    """A call for a shard reached an engine that does not lead it: nothing was done."""

    default_reason = "SHARD_NOT_HERE"


class ShardAway(Unavailable):
    """No engine leads the shard now, or the one that does is not reached. The call may be made again."""

    default_reason = "SHARD_AWAY"


class NotTheFirstShard(FailedPrecondition):
    """A call named a shard that has nothing of what it asks for: the first shard alone has."""

    default_reason = "NOT_THE_FIRST_SHARD"
