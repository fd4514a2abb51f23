"""Exports whose copy cannot be written."""

import asyncio
from pathlib import Path

import pytest

from libs.clock.clock import SystemClock
from libs.embedded.failures import DiskFull
from services.storage.backup.exporting import Exports
from services.storage.backup.folder import Folder
from services.storage.domain.model import Mode
from services.storage.domain.namespace import Namespace, Settings
from services.storage.store.memory import memory_store


def test_who_reads_after_the_copy_has_failed_is_told_why(tmp_path: Path) -> None:
    async def main() -> None:
        clock = SystemClock()
        folder = Folder(tmp_path, 1 << 60)
        await folder.prepare()
        exports = Exports(memory_store(lambda: clock.time_ns() // 1000), folder, clock)
        writing = asyncio.create_task(exports.run())
        name = await exports.begin(Namespace(Settings("lww", Mode.LWW), 7, 0))
        async with asyncio.timeout(60):
            while any(path.is_file() for path in tmp_path.rglob("*")):  # noqa: ASYNC110, ASYNC240  no one tells
                await asyncio.sleep(0)
        with pytest.raises(DiskFull):
            await anext(exports.read(name, 0))
        writing.cancel()

    asyncio.run(main())
