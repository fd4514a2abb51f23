"""Copies of a shard's store, made while its owner works.

Checkpoints are what a store that is ahead of its log goes back to; snapshots are for other machines.
"""

import asyncio
import logging

from libs.errors.errors import WellspringError
from services.propagation.sharded.directory import ShardDirectory
from services.propagation.store.embedded import EmbeddedStore
from services.propagation.store.logged.log import CommitLog

log = logging.getLogger(__name__)

EVERY_S = 300.0
"""An owner that was killed reads so much of its log again, at most."""


async def keep_checkpoints(directory: ShardDirectory, store: EmbeddedStore, commits: CommitLog) -> None:
    """For ever: keeps a checkpoint of the store, and another one later if anything was written; and snapshots, where
    there are to be any."""

    async def prove() -> bool:
        await commits.barrier()
        return True

    async with asyncio.TaskGroup() as group:
        group.create_task(_keep_newest(directory, store, commits))
        group.create_task(directory.keep_snapshots(store, prove, leads=True))


async def _keep_newest(directory: ShardDirectory, store: EmbeddedStore, commits: CommitLog) -> None:
    kept = None
    while True:
        anchor = commits.anchor
        if anchor != kept:
            try:
                await directory.keep_checkpoint(store, commits)
                kept = anchor
            except WellspringError as error:
                # The one before stays, and who needs none is not harmed; a log that takes no more is told elsewhere.
                log.warning("no checkpoint of the shard was kept: %s", error.message)
        await asyncio.sleep(EVERY_S)
