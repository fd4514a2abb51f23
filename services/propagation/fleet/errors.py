"""The errors of a fleet, beside those of its shards.

WellspringError
├── Aborted
│   └── ShardNotHere   SHARD_NOT_HERE   between engines: another one leads the shard
├── Unavailable
│   └── ShardAway      SHARD_AWAY       no engine leads the shard now, or it is not reached
└── Unimplemented
    └── NeedsOneShard  NEEDS_ONE_SHARD  what this release does for one shard only
"""

from libs.errors.errors import Aborted, Unavailable, Unimplemented


class ShardNotHere(Aborted):
    """A call for a shard reached an engine that does not lead it: nothing was done."""

    default_reason = "SHARD_NOT_HERE"


class ShardAway(Unavailable):
    """No engine leads the shard now, or the one that does is not reached. The call may be made again."""

    default_reason = "SHARD_AWAY"


class NeedsOneShard(Unimplemented):
    """Something that this release does for one shard only."""

    default_reason = "NEEDS_ONE_SHARD"
