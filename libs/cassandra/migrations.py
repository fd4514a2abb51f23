"""A keyspace's tables, made and changed by numbered files of CQL: applied by a command, checked at every start.

A migration is `NNNN_what.cql`: statements that end with a semicolon at the end of a line, and comments (`-- …`). Once
applied it never changes; the next change is the next file. `{keyspace}` in it stands for the keyspace's name.
"""

import asyncio
import hashlib
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from libs.cassandra.options import Options
from libs.cassandra.session import EACH_QUORUM, LOCAL_QUORUM, QUORUM, SERIAL, Session, opened
from libs.errors.errors import FailedPrecondition, InvalidArgument

_NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.cql")
_LOCK_S: Final = 120
_LOCK_WAIT_S: Final = 1.0
_TABLES: Final = (
    "CREATE TABLE IF NOT EXISTS {keyspace}.migrations"
    " (number int PRIMARY KEY, name text, digest text, applied_at timestamp)",
    "CREATE TABLE IF NOT EXISTS {keyspace}.migrations_lock (id int PRIMARY KEY, owner uuid)",
)


@dataclass(frozen=True, slots=True)
class Migration:
    """One file."""

    number: int
    name: str
    statements: tuple[str, ...]
    digest: str


def read(folder: Path) -> list[Migration]:
    """The migrations in a folder, in order. Raises InvalidArgument for a file that is none, or a number that is missing
    or twice there."""
    found = []
    for path in sorted(folder.glob("*.cql")):
        match = _NAME.fullmatch(path.name)
        if match is None:
            raise InvalidArgument(f"{path.name} is no migration; its name is like 0001_tables.cql")
        text = path.read_text(encoding="utf-8")
        lines = [line for line in text.splitlines() if not line.lstrip().startswith("--")]
        statements = tuple(part.strip() for part in re.split(r";\s*$", "\n".join(lines), flags=re.M) if part.strip())
        digest = hashlib.sha256("\n;\n".join(statements).encode()).hexdigest()
        found.append(Migration(int(match[1]), path.stem, statements, digest))
    numbers = [one.number for one in found]
    if numbers != list(range(1, len(found) + 1)):
        raise InvalidArgument(f"the migrations of {folder.name} are {numbers}; they are numbered from 1 without a gap")
    return found


async def apply(options: Options, migrations: Sequence[Migration]) -> list[str]:
    """Makes the keyspace if there is none, applies what was not applied yet, and answers the names of what it did. Two
    at once take turns. Raises FailedPrecondition as :func:`check`, and Unavailable."""
    async with opened(options, keyspace=False) as session:
        unknown = set(options.replication) - session.datacentres()
        if unknown:
            raise FailedPrecondition(
                f"replication names data centres that the cluster does not have: {', '.join(sorted(unknown))};"
                f" it has {', '.join(sorted(session.datacentres()))}",
                reason="PLACEMENT_INVALID",
            )
        replication = options.replication or {options.local_datacentre: 1}
        await session.run(_keyspace(options.keyspace, replication))
        for table in _TABLES:
            await session.run(table.format(keyspace=options.keyspace))
    async with opened(options) as session:
        owner = await _lock(session)
        try:
            return await _apply(session, migrations)
        finally:
            release = await session.prepare("DELETE FROM migrations_lock WHERE id = 0 IF owner = ?", write=True)
            await session.execute(release, (owner,), QUORUM, serial=SERIAL)


async def check(session: Session, migrations: Sequence[Migration]) -> None:
    """Raises FailedPrecondition unless the keyspace has had just these migrations; asks this data centre alone, so that
    a service starts while another one is away."""
    missing = _missing(await _applied(session, LOCAL_QUORUM), migrations)
    if missing:
        raise FailedPrecondition(
            f"the keyspace {session.options.keyspace!r} lacks {len(missing)} migrations, {missing[0].name} first:"
            " apply them, then start again",
            reason="MIGRATIONS_MISSING",
        )


async def _apply(session: Session, migrations: Sequence[Migration]) -> list[str]:
    missing = _missing(await _applied(session, QUORUM), migrations)
    note = await session.prepare(
        "INSERT INTO migrations (number, name, digest, applied_at) VALUES (?, ?, ?, toTimestamp(now()))", write=True
    )
    for migration in missing:
        for statement in migration.statements:
            await session.run(statement.replace("{keyspace}", session.options.keyspace))
        await session.execute(note, (migration.number, migration.name, migration.digest), EACH_QUORUM)
    return [migration.name for migration in missing]


async def _applied(session: Session, consistency: int) -> dict[int, tuple[str, str]]:
    read_all = await session.prepare("SELECT number, name, digest FROM migrations", write=False)
    rows = await session.execute(read_all, (), consistency)
    return {number: (name, digest) for number, name, digest in rows}


def _missing(applied: Mapping[int, tuple[str, str]], migrations: Sequence[Migration]) -> list[Migration]:
    for migration in migrations:
        known = applied.get(migration.number)
        if known is not None and known != (migration.name, migration.digest):
            raise FailedPrecondition(
                f"the keyspace has had {known[0]} as migration {migration.number}, this release has another"
                f" {migration.name}: it belongs to another release",
                reason="MIGRATIONS_DIFFER",
            )
    strange = sorted(set(applied) - {migration.number for migration in migrations})
    if strange:
        raise FailedPrecondition(
            f"the keyspace has had migration {applied[strange[0]][0]}, which this release does not know: start the"
            " release that applied it, or a newer one",
            reason="MIGRATIONS_NEWER",
        )
    return [migration for migration in migrations if migration.number not in applied]


async def _lock(session: Session) -> uuid.UUID:
    """Waits for the lock; it ends by itself if its owner dies."""
    owner = uuid.uuid4()
    take = await session.prepare(
        f"INSERT INTO migrations_lock (id, owner) VALUES (0, ?) IF NOT EXISTS USING TTL {_LOCK_S}", write=True
    )
    for _ in range(int(2 * _LOCK_S / _LOCK_WAIT_S)):
        rows = await session.execute(take, (owner,), QUORUM, serial=SERIAL)
        if rows[0][0]:
            return owner
        await asyncio.sleep(_LOCK_WAIT_S)
    raise FailedPrecondition("another process has been applying migrations for minutes", reason="MIGRATIONS_LOCKED")


def _keyspace(name: str, replication: Mapping[str, int]) -> str:
    places = ", ".join(f"'{place}': {count}" for place, count in sorted(replication.items()))
    return (
        f"CREATE KEYSPACE IF NOT EXISTS {name} WITH replication ="
        f" {{'class': 'NetworkTopologyStrategy', {places}}} AND durable_writes = true"
    )
