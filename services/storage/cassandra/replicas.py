"""What replicas have, asked one by one: what several of them answer together may be the damaged one's, for of cells
with one timestamp Cassandra takes the greater value."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from libs.cassandra.session import Row
from libs.errors.errors import Unavailable
from services.storage.cassandra.lww.far import Datacentres


async def everywhere(datacentres: Datacentres, read: str, values: Sequence[Any]) -> AsyncIterator[Row]:
    """The rows of a statement of one partition as each replica that answers has them; the own data centre's first."""
    here = datacentres.here
    own = here.session.options.local_datacentre
    for datacentre in sorted(here.session.replicated(), key=lambda name: (name != own, name)):
        try:
            session, statements = await datacentres.reached(datacentre)
            async for rows in session.at_each_replica(statements.read[read], values):
                for row in rows:
                    yield row
        except Unavailable:
            datacentres.failed(datacentre)
