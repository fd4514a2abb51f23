"""All that revokes in one data centre, taken into another one: a copy of rows that only grow.

Needed where the feed does not reach back: a data centre that is new, or was away for longer than revocations are kept.
"""

import asyncio

from services.session.cassandra.cluster import Cluster
from services.session.cassandra.opaque import CassandraOpaque
from services.session.cassandra.revoked import Revocations
from services.session.store.interface import End


async def resynchronised(there: Cluster, here: Revocations, opaque: CassandraOpaque) -> None:
    """Returns when every tombstone and every epoch that can be read there is at a quorum here. Raises Unavailable."""
    await opaque.resynchronise(there)
    async for page in there.pages("all_tombstones"):
        ends = [(row[0], End(row[1], row[2], row[4], row[3])) for row in page]
        await asyncio.gather(*(here.bury(realm, end, None) for realm, end in ends))
    async for page in there.pages("all_subject_epochs"):
        await asyncio.gather(*(here.hear_epoch(*row) for row in page))
    async for page in there.pages("all_realm_epochs"):
        await asyncio.gather(*(here.hear_epoch(row[0], row[1], b"", *row[2:]) for row in page))
