"""A store's files to a shelf and back: as one stream of bytes, cut into parts of which each has its checksum."""

import asyncio
import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from libs.embedded.failures import translate
from libs.files import durable
from services.propagation.sharded.snapshots.manifest import (
    Manifest,
    SnapshotDamaged,
    part_bytes_for,
)
from services.propagation.sharded.snapshots.shelf import Shelf
from services.propagation.sharded.threads import to_its_end
from services.propagation.store.logged.place import Anchor

Files = Sequence[tuple[str, int]]


def manifest_of(directory: Path, anchor: Anchor, topic: str, written_s: float) -> Manifest:
    """Of the store in a directory that nobody changes. Blocks. Raises StoreUnavailable."""
    try:
        files = [(str(one.relative_to(directory)), one.stat().st_size) for one in directory.rglob("*") if one.is_file()]
    except OSError as error:
        raise translate(error, f"reading the checkpoint {directory}") from error
    size_bytes = sum(size for _, size in files)
    return Manifest(anchor, topic, written_s, tuple(sorted(files)), part_bytes_for(size_bytes))


async def write(shelf: Shelf, name: str, directory: Path, begun: Manifest) -> None:
    """Puts the files on the shelf, reads each part back, and only then says that the snapshot is whole.

    Raises SnapshotDamaged when a part comes back as another one, and what the shelf raises.
    """
    await shelf.put_entry(name, begun.packed())
    parts = []
    for at in range(begun.part_count):
        start = at * begun.part_bytes
        content = await asyncio.to_thread(_read, directory, begun.files, start, start + begun.part_bytes)
        checksum = await asyncio.to_thread(_checksum, content)
        await shelf.put_part(name, at, content)
        kept = await shelf.part(name, at)
        if kept is None or await asyncio.to_thread(_checksum, kept) != checksum:
            raise SnapshotDamaged(f"the snapshot {name}: part {at} does not come back as it was written")
        parts.append(checksum)
    await shelf.put_entry(name, replace(begun, parts=tuple(parts)).packed())


async def fetch(shelf: Shelf, name: str, manifest: Manifest, into: Path) -> None:
    """Makes the directory `into`, durably. Raises SnapshotDamaged, what the shelf raises, DiskFull, StoreUnavailable;
    what `into` is then is nothing to be used."""
    await to_its_end(asyncio.to_thread(shutil.rmtree, into, ignore_errors=True))
    try:
        await to_its_end(asyncio.to_thread(_make_empty, into, manifest.files))
        at_byte = 0
        async for content in _parts(shelf, name, manifest):
            await to_its_end(asyncio.to_thread(_write, into, manifest.files, at_byte, content))
            at_byte += len(content)
        if at_byte != manifest.size_bytes:
            raise SnapshotDamaged(f"the snapshot {name} has {at_byte} bytes of {manifest.size_bytes}")
        await to_its_end(asyncio.to_thread(_make_durable, into, manifest.files))
    except OSError as error:
        raise translate(error, f"making {into} of a snapshot") from error


async def remove(shelf: Shelf, name: str, part_count: int) -> None:
    """Removes a snapshot: its entry last, so that a killed engine's work is done by the next. Raises what the shelf
    raises."""
    for at in range(part_count):
        await shelf.remove_part(name, at)
    await shelf.remove_entry(name)


async def _parts(shelf: Shelf, name: str, manifest: Manifest) -> AsyncIterator[bytes]:
    for at, checksum in enumerate(manifest.parts):
        content = await shelf.part(name, at)
        if content is None:
            raise SnapshotDamaged(f"the snapshot {name}: part {at} is missing or damaged")
        if await asyncio.to_thread(_checksum, content) != checksum:
            raise SnapshotDamaged(f"the snapshot {name}: part {at} is damaged: its checksum does not fit")
        yield content


# -- blocking ---------------------------------------------------------------------------------------------------------


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _read(directory: Path, files: Files, start: int, end: int) -> bytes:
    found = []
    for name, offset, length in _pieces(files, start, end):
        try:
            with (directory / name).open("rb") as file:
                file.seek(offset)
                found.append(file.read(length))
        except OSError as error:
            raise translate(error, f"reading the checkpoint {directory}") from error
    return b"".join(found)


def _write(directory: Path, files: Files, start: int, content: bytes) -> None:
    at = 0
    for name, offset, length in _pieces(files, start, start + len(content)):
        with (directory / name).open("r+b") as file:
            file.seek(offset)
            file.write(content[at : at + length])
        at += length


def _pieces(files: Files, start: int, end: int) -> Iterator[tuple[str, int, int]]:
    """(file, offset in it, length) of the bytes [start, end) of all files, one behind the other."""
    begins_at = 0
    for name, size in files:
        first, last = max(start, begins_at), min(end, begins_at + size)
        if first < last:
            yield name, first - begins_at, last - first
        begins_at += size


def _make_empty(directory: Path, files: Files) -> None:
    directory.mkdir(mode=0o700)
    for name, _ in files:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)


def _make_durable(directory: Path, files: Files) -> None:
    for name, _ in files:
        with (directory / name).open("rb") as file:
            os.fsync(file.fileno())
    for folder in {(directory / name).parent for name, _ in files} | {directory}:
        durable.sync_directory(folder)
