"""The RocksDB database of a data directory: opened, checked after a crash, written, synced, closed. Nothing else names
the driver's database object."""

from collections.abc import Sequence
from pathlib import Path

import rocksdict

from libs.embedded import logs, watermark
from libs.embedded.directory import DataDirectory
from libs.embedded.failures import WrongDirectory
from libs.embedded.family import Family
from libs.embedded.settings import (
    FamilySpec,
    Settings,
    database_options,
    family_options,
)


class Database:
    """One open database. `write` belongs to one thread; `sync` may run in another at the same time."""

    def __init__(
        self,
        raw: rocksdict.Rdict,
        mark: watermark.Watermark,
        options: dict[str, rocksdict.Options],
    ) -> None:
        """Use :meth:`open`."""
        self._raw = raw
        self._mark = mark
        self._options = options
        self._write_options = rocksdict.WriteOptions()
        self.families = {
            name: Family(name, raw.get_column_family(name), raw.get_column_family_handle(name)) for name in options
        }

    @classmethod
    def open(cls, directory: DataDirectory, specs: Sequence[FamilySpec], settings: Settings) -> "Database":
        """Open or create the database, recover its log and check that all that was acknowledged is there.

        Raises WrongDirectory for a family that this version does not know, StoreDamaged, or what the driver raises.
        """
        path = directory.database
        _refuse_unknown_families(path, {spec.name for spec in specs})
        mark = watermark.Watermark(directory.watermark)
        try:
            durable = mark.read()
            watermark.keep_logs(path, directory.unverified)
            logs.make_readable(path)
            cache = rocksdict.Cache(settings.cache_bytes)
            options = {spec.name: family_options(spec, settings, cache) for spec in specs}
            raw = rocksdict.Rdict(
                str(path),
                database_options(settings, cache),
                column_families=dict(options),
            )
            try:
                watermark.check(
                    raw.latest_sequence_number(),
                    durable,
                    directory.watermark,
                    directory.unverified,
                )
                watermark.drop_logs(directory.unverified)
                return cls(raw, mark, options)
            except BaseException:
                raw.close()
                raise
        except BaseException:
            mark.close()
            raise

    def write(self, batch: rocksdict.WriteBatch) -> None:
        """Apply ``batch``: it is in the log and seen by every later read, and not yet durable. Uses the batch up."""
        self._raw.write(batch, self._write_options)

    def sync(self) -> None:
        """Make everything written before this call durable. Blocks without holding the interpreter."""
        sequence = self._raw.latest_sequence_number()
        self._raw.flush_wal(True)
        self._mark.write(sequence)

    def write_out(self) -> None:
        """Write the memory tables to files, so that the next start has no log to recover."""
        for family in self.families.values():
            family.write_out()

    def checkpoint(self, path: Path) -> None:
        """Hard-link the database's present state into the new directory ``path``. Blocks."""
        rocksdict.Checkpoint(self._raw).create_checkpoint(str(path))

    def family_options(self, name: str) -> rocksdict.Options:
        """The driver's options of a family, for files written beside it."""
        return self._options[name]

    def close(self) -> None:
        """Close the database and its watermark. The driver lets the files go when no iterator is held any more."""
        self.families.clear()
        self._raw.close()
        self._mark.close()


def _refuse_unknown_families(path: Path, known: set[str]) -> None:
    if not (path / "CURRENT").exists():
        return
    found = set(rocksdict.Rdict.list_cf(str(path), rocksdict.Options(raw_mode=True))) - {"default"}
    unknown = sorted(found - known)
    if unknown:
        raise WrongDirectory(
            f"{path} holds families that this release does not know: {', '.join(unknown)};"
            " run the release that wrote them",
            metadata={"path": str(path), "families": ",".join(unknown)},
        )
