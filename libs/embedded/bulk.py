"""Bulk loading: sorted items become a finished file, which the store takes in as a whole."""

import shutil
from collections.abc import Iterable
from pathlib import Path

import rocksdict

from libs.embedded.failures import translate
from libs.embedded.family import Family

_FILE_BYTES = 64 << 20


def ingest(
    family: Family,
    items: Iterable[tuple[bytes, bytes]],
    directory: Path,
    options: rocksdict.Options,
) -> int:
    """Write strictly ascending ``items`` as files of about 64 MiB in ``directory``, then move all of them into
    ``family`` at once.

    Returns the number of items. Raises ValueError when keys do not ascend, and typed errors of the disk; nothing is
    visible then.
    """
    shutil.rmtree(directory, ignore_errors=True)  # what a crash in the middle of an earlier load left
    try:
        directory.mkdir()
        paths, count = _write(items, directory, options)
        if paths:
            family.ingest(paths)
        return count
    except ValueError:
        raise
    except Exception as error:
        raise translate(error, f"bulk loading {family.name}") from error
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _write(items: Iterable[tuple[bytes, bytes]], directory: Path, options: rocksdict.Options) -> tuple[list[str], int]:
    paths: list[str] = []
    writer: rocksdict.SstFileWriter | None = None
    last: bytes | None = None
    count = size = 0
    for key, value in items:
        if last is not None and key <= last:
            raise ValueError(f"bulk loading needs strictly ascending keys: {key!r} came after {last!r}")
        if writer is None:
            paths.append(str(directory / f"{len(paths):06d}.sst"))
            writer = rocksdict.SstFileWriter(options)
            writer.open(paths[-1])
            size = 0
        writer[key] = value
        last = key
        count += 1
        size += len(key) + len(value)
        if size >= _FILE_BYTES:
            writer.finish()
            writer = None
    if writer is not None:
        writer.finish()
    return paths, count
