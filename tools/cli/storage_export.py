"""`wellspring storage export` and `wellspring storage import`: a namespace to a file, and a file into a namespace."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

import click

from tools.cli.failures import BAD_DATA, CONFLICT, Failure
from tools.cli.output import counted
from tools.cli.output import size as size_text
from tools.cli.storage_operations import Bar
from tools.cli.target import Target, target_options
from tools.cli.values import utf8
from wellspring_client.errors import DataLoss, InvalidRequest, ResumeTokenExpired
from wellspring_client.sync import Client

_END: Final = 65
"""Bytes at the end of an export that its checksum, their last 32, does not cover."""
_DIGEST: Final = 32
_PIECE: Final = 1 << 20
_IMPORT_S: Final = 3600.0


@click.command("export")
@click.argument("namespace", callback=utf8)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--force", is_flag=True, help="Replace FILE when it is there.")
@target_options
def export_namespace(to: Target, namespace: str, file: Path, force: bool) -> None:
    """Write a namespace, as it is at one moment, into a file that carries its checksum.

    An export that was interrupted goes on where it was when it is run again, within an hour. The file may also be put
    into the folder of the server's snapshots, and restored.

    \b
    Examples
      wellspring storage export notes notes.export
      wellspring storage export wiki /backup/wiki.export --force --json
    """
    if file.exists() and not force:
        raise Failure(f"{file} is there already; --force replaces it", CONFLICT)
    draft = _Draft(file)
    with to.client() as client:
        try:
            size = _receive(to, client, namespace, draft)
        except ResumeTokenExpired:
            to.out.note("what was exported before can no longer be completed; beginning anew")
            draft.clear()
            size = _receive(to, client, namespace, draft)
    digest = draft.finish()
    to.out.object(
        {"namespace": namespace, "file": str(file), "bytes": size, "sha256": digest.hex()},
        f"{file}: {size_text(size)}, its checksum holds",
    )


@click.command("import")
@click.argument("namespace", callback=utf8)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@target_options
def import_namespace(to: Target, namespace: str, file: Path) -> None:
    """Write an exported file into a namespace of the same mode.

    Nothing is written unless the whole file matches its checksum. What is there already, or newer, is left as it is:
    the same import again changes nothing more, and goes on where one broke off.

    \b
    Example
      wellspring storage import notes-copy notes.export
    """
    with file.open("rb") as source, to.client() as client:
        size = os.fstat(source.fileno()).st_size
        if size < _END:
            raise Failure(f"{file} is no export: it is too short", BAD_DATA)
        source.seek(size - _DIGEST)
        digest = source.read()
        source.seek(0)
        try:
            answer = client.storage.import_namespace(
                namespace, _pieces(to, source, size), digest, timeout=max(to.timeout_s, _IMPORT_S)
            )
        except DataLoss as error:
            raise Failure(f"{file}: {error.message}", BAD_DATA, error.reason) from None
        except InvalidRequest as error:
            if error.reason != "EXPORT_INVALID":
                raise
            raise Failure(f"{file}: {error.message}", BAD_DATA, error.reason) from None
    told: dict[str, Any] = {"namespace": namespace, "records": answer.records, "items": answer.items}
    to.out.object(told, f"{counted(answer.records, 'record')} with {counted(answer.items, 'item')} imported")


class _Draft:
    """The file while it is written: beside it, with the token to go on with."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._part = file.with_name(file.name + ".partial")
        self._token = file.with_name(file.name + ".resume")

    def place(self, namespace: str) -> tuple[int, str]:
        """How much is there and the token behind it; nothing when there is none of this namespace."""
        try:
            known = json.loads(self._token.read_text(encoding="utf-8"))
            if known["namespace"] == namespace and self._part.stat().st_size >= known["bytes"]:
                return int(known["bytes"]), str(known["token"])
        except (OSError, ValueError, KeyError, TypeError):
            pass  # nothing to go on with: begun anew
        return 0, ""

    def open(self, size: int) -> BinaryIO:
        """The file behind its first ``size`` bytes; the others go."""
        file = self._part.open("r+b" if size else "wb")
        file.truncate(size)
        file.seek(size)
        return file

    def note(self, namespace: str, size: int, token: str) -> None:
        """Remembers the token behind ``size`` bytes."""
        new = self._token.with_name(self._token.name + ".new")
        new.write_text(json.dumps({"namespace": namespace, "bytes": size, "token": token}), encoding="utf-8")
        new.replace(self._token)

    def clear(self) -> None:
        """Forgets what there is."""
        self._part.unlink(missing_ok=True)
        self._token.unlink(missing_ok=True)

    def finish(self) -> bytes:
        """Puts the file in its place, when it matches its checksum; the checksum. Raises Failure."""
        sha, left = hashlib.sha256(), self._part.stat().st_size - _END
        with self._part.open("rb") as file:
            while left > 0:
                piece = file.read(min(_PIECE, left))
                sha.update(piece)
                left -= len(piece)
            end = file.read()
            os.fsync(file.fileno())
        if end[-_DIGEST:] != sha.digest():
            self.clear()
            raise Failure("what came does not match its checksum; export again", BAD_DATA, "CHECKSUM_MISMATCH")
        self._part.replace(self._file)
        self._token.unlink(missing_ok=True)
        return sha.digest()


def _receive(to: Target, client: Client, namespace: str, draft: _Draft) -> int:
    """Writes what comes; answers the bytes of all."""
    size, token = draft.place(namespace)
    if size:
        to.out.note(f"going on behind {size_text(size)}")
    with draft.open(size) as file, Bar(to.out, "exporting") as shown:
        for answer in client.storage.export_namespace(namespace, resume_token=token):
            file.write(answer.data)
            file.flush()
            size += len(answer.data)
            draft.note(namespace, size, answer.resume_token)
            shown.update(size, 0)
    return size


def _pieces(to: Target, source: BinaryIO, size: int) -> Iterator[bytes]:
    done = 0
    with Bar(to.out, "importing") as shown:
        while piece := source.read(_PIECE):
            done += len(piece)
            shown.update(done, size)
            yield piece
