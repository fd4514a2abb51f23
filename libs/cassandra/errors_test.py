"""What may have happened is told as that, and what cannot have happened is not."""

import pytest
from cassandra import ConsistencyLevel, OperationTimedOut, ReadTimeout, WriteTimeout
from cassandra import Unavailable as TooFewReplicas
from cassandra.cluster import NoHostAvailable

from libs.cassandra.errors import OutcomeUnknown, translate

SERIAL, LOCAL_QUORUM = ConsistencyLevel.SERIAL, ConsistencyLevel.LOCAL_QUORUM


@pytest.mark.parametrize(
    ("error", "how", "unknown"),
    [
        # Too few to decide: nothing was. Too few to take what was decided: it was.
        (TooFewReplicas("", SERIAL, 2, 1), {"write": True, "conditional": True}, False),
        (TooFewReplicas("", LOCAL_QUORUM, 2, 1), {"write": True, "conditional": True}, True),
        (TooFewReplicas("", LOCAL_QUORUM, 2, 1), {"write": True}, False),
        (TooFewReplicas("", LOCAL_QUORUM, 2, 1), {"write": False}, False),
        (WriteTimeout("", write_type=0), {"write": True}, True),
        (OperationTimedOut(), {"write": True}, True),
        (OperationTimedOut(), {"write": False}, False),
        (ReadTimeout(""), {"write": False}, False),
        (NoHostAvailable("", {"node": WriteTimeout("", write_type=0)}), {"write": True}, True),
        (NoHostAvailable("", {}), {"write": True}, False),
    ],
)
def test_a_write_that_may_have_happened_is_unknown(error, how, unknown):
    told = translate(error, **how)
    assert isinstance(told, OutcomeUnknown) is unknown
    assert told.code.name == "UNAVAILABLE"
