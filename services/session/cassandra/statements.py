"""Every statement that the backend sends, prepared once; each says with its name what it does."""

from typing import Final

from libs.cassandra.session import Session
from libs.cassandra.statements import Prepared

_SESSION: Final = "WHERE realm = ? AND handle = ?"
_SUBJECT: Final = "WHERE realm = ? AND subject = ? AND shard = ?"
_ENTRY: Final = f"{_SUBJECT} AND created_us = ? AND handle = ?"
_ENTER: Final = (
    "INSERT INTO subjects (realm, subject, shard, created_us, handle, pending, key) VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_SLOT: Final = "WHERE realm = ? AND origin = ? AND slot = ?"
_NAMED: Final = "WHERE realm = ? AND name = ?"
_TOLD: Final = (
    "INSERT INTO revocations (realm, origin, slot, number, kind, name, at_us, handle, cause, until_us, counter)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)

_READS: Final = {
    "head": f"SELECT DISTINCT head, revision, nonce FROM sessions {_SESSION}",
    "rows": f"SELECT key, item, head FROM sessions {_SESSION} AND key IN ?",
    "all_rows": f"SELECT key, item, head FROM sessions {_SESSION}",
    "heads": "SELECT DISTINCT realm, handle, head, token(realm, handle) FROM sessions"
    " WHERE token(realm, handle) > ? LIMIT ?",
    "tombstones": f"SELECT at_us, cause, until_us FROM tombstones {_SESSION}",
    "subject_epoch": "SELECT datacentre, counter, raised_us FROM subject_epochs WHERE realm = ? AND subject = ?",
    "realm_epochs": "SELECT realm, datacentre, counter, raised_us FROM realm_epochs WHERE part = 0",
    "realm_epoch": "SELECT datacentre, counter, raised_us FROM realm_epochs WHERE part = 0 AND realm = ?",
    "standing": f"SELECT DISTINCT sealed, mark FROM subjects {_SUBJECT}",
    "entries": f"SELECT created_us, handle, pending FROM subjects {_SUBJECT}",
    "entries_from": f"SELECT created_us, handle, pending FROM subjects {_SUBJECT}"
    " AND (created_us, handle) >= (?, ?) LIMIT ?",
    "entry": f"SELECT handle FROM subjects {_ENTRY}",
    "entry_key": f"SELECT key, TTL(key) FROM subjects {_ENTRY}",
    "entry_keys": f"SELECT created_us, handle, key FROM subjects {_SUBJECT}",
    "count": f"SELECT count(handle) FROM subjects {_SUBJECT}",
    "subjects": "SELECT DISTINCT realm, subject, shard, sealed, mark, token(realm, subject, shard) FROM subjects"
    " WHERE token(realm, subject, shard) > ? LIMIT ?",
    "keys": "SELECT realm, subject, shard, created_us, handle, key, sealed FROM subjects",
    "everybody": "SELECT realm, subject, shard, handle FROM subjects",
    "revocations": f"SELECT number, kind, name, at_us FROM revocations {_SLOT} AND number > ? LIMIT ?",
    "first_revocation": f"SELECT number FROM revocations {_SLOT} LIMIT 1",
    "last_revocation": f"SELECT number FROM revocations {_SLOT} ORDER BY number DESC LIMIT 1",
    "whole_revocations": "SELECT number, kind, name, at_us, handle, cause, until_us, counter FROM revocations"
    f" {_SLOT} AND number > ? LIMIT ?",
    "all_newest": "SELECT realm, newest FROM revocation_heads WHERE origin = ? ALLOW FILTERING",
    "tombstone_names": "SELECT DISTINCT realm, handle FROM tombstones",
    "raised_subjects": "SELECT DISTINCT realm, subject FROM subject_epochs",
    "all_tombstones": "SELECT realm, handle, at_us, cause, until_us FROM tombstones",
    "all_subject_epochs": "SELECT realm, datacentre, subject, counter, raised_us FROM subject_epochs",
    "all_realm_epochs": "SELECT realm, datacentre, counter, raised_us FROM realm_epochs WHERE part = 0",
    "heartbeat": "SELECT said FROM heartbeats WHERE origin = ?",
    "heard": "SELECT realm, number FROM heard WHERE datacentre = ? AND origin = ?",
    "fences": "SELECT datacentre, at_us, shut FROM fences WHERE part = 0",
    "revocation": f"SELECT name, at_us FROM revocations {_SLOT} AND number = ?",
    "newest": "SELECT newest FROM revocation_heads WHERE realm = ? AND origin = ?",
    "request": "SELECT created FROM requests WHERE request = ?",
    "creations": "SELECT handle, subject, until_us FROM creations WHERE request = ?",
    "realms": "SELECT name, version, created_us, body FROM realms WHERE part = 0",
    "realm": "SELECT version, body FROM realms WHERE part = 0 AND name = ?",
    "realm_made": "SELECT created_us FROM realms WHERE part = 0 AND name = ?",
    "servers": "SELECT server, said FROM servers WHERE part = 0",
    "note": "SELECT value FROM notes WHERE name = ?",
    "opaque": f"SELECT value, WRITETIME(value) FROM opaque {_NAMED}",
    "opaque_tombstones": f"SELECT at_us, until_us, removed_us FROM opaque_tombstones {_NAMED}",
    "all_opaque_tombstones": "SELECT realm, name, until_us, at_us, removed_us FROM opaque_tombstones",
    "opaques": "SELECT realm, name, value, token(realm, name) FROM opaque WHERE token(realm, name) > ? LIMIT ?",
    "opaque_names": "SELECT realm, name FROM opaque",
    "opaque_deleted": "SELECT DISTINCT realm, name FROM opaque_tombstones",
    # Of several partitions each; what they tell of one is the read of the same name without the ending.
    "head of many": "SELECT DISTINCT handle, head, revision, nonce FROM sessions WHERE realm = ? AND handle IN ?",
    "subject_epoch of many": "SELECT subject, datacentre, counter, raised_us FROM subject_epochs"
    " WHERE realm = ? AND subject IN ?",
    "creations of many": "SELECT request, handle, subject, until_us FROM creations WHERE request IN ?",
    "note of many": "SELECT name, value FROM notes WHERE name IN ?",
}
_WRITES: Final = {
    "first_head": "INSERT INTO sessions (realm, handle, key, item, head, revision, nonce) VALUES (?, ?, ?, ?, ?, ?, ?)"
    " USING TIMESTAMP 1 AND TTL ?",
    "first_item": "INSERT INTO sessions (realm, handle, key, item) VALUES (?, ?, ?, ?) USING TIMESTAMP 1 AND TTL ?",
    "next_head": f"UPDATE sessions USING TTL ? SET head = ?, revision = ?, nonce = ? {_SESSION} IF revision = ?",
    "put_item": "INSERT INTO sessions (realm, handle, key, item) VALUES (?, ?, ?, ?) USING TTL ?",
    "drop_item": f"DELETE FROM sessions {_SESSION} AND key = ?",
    "drop_head": f"DELETE head, revision, nonce FROM sessions {_SESSION} IF revision = ?",
    "drop_items": f"DELETE FROM sessions {_SESSION}",
    "tombstone": "INSERT INTO tombstones (realm, handle, at_us, cause, until_us) VALUES (?, ?, ?, ?, ?) USING TTL ?",
    "subject_epoch": "INSERT INTO subject_epochs (realm, subject, datacentre, counter, raised_us)"
    " VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?",
    "realm_epoch": "INSERT INTO realm_epochs (part, realm, datacentre, counter, raised_us)"
    " VALUES (0, ?, ?, ?, ?) USING TIMESTAMP ?",
    "mark": f"UPDATE subjects USING TTL ? SET mark = ? {_SUBJECT} IF mark = ?",
    "seal": f"UPDATE subjects SET sealed = ? {_SUBJECT}",
    "first_enter": f"{_ENTER} USING TIMESTAMP 1 AND TTL ?",
    "enter": f"{_ENTER} USING TTL ?",
    "seal_entry": f"UPDATE subjects USING TTL ? SET key = ? {_ENTRY}",
    "unseal_entry": f"DELETE key FROM subjects {_ENTRY}",
    "leave": f"DELETE FROM subjects {_ENTRY}",
    "tell": f"{_TOLD} IF NOT EXISTS USING TTL ?",
    "tell_again": f"{_TOLD} USING TTL ?",
    "beat": "UPDATE heartbeats USING TIMESTAMP ? SET said = ? WHERE origin = ?",
    "hear": "UPDATE heard USING TIMESTAMP ? SET number = ? WHERE datacentre = ? AND origin = ? AND realm = ?",
    "fence": "INSERT INTO fences (part, datacentre, at_us, shut, reason) VALUES (0, ?, ?, ?, ?) USING TIMESTAMP ?",
    "newest": "UPDATE revocation_heads USING TIMESTAMP ? SET newest = ? WHERE realm = ? AND origin = ?",
    "first_request": "INSERT INTO requests (request, created) VALUES (?, ?) IF NOT EXISTS USING TTL ?",
    "creation": "INSERT INTO creations (request, handle, subject, until_us) VALUES (?, ?, ?, ?)"
    " USING TIMESTAMP 1 AND TTL ?",
    "drop_creation": "DELETE FROM creations WHERE request = ? AND handle = ?",
    "first_realm": "INSERT INTO realms (part, name, version, created_us, body) VALUES (0, ?, ?, ?, ?) IF NOT EXISTS",
    "next_realm": "UPDATE realms SET version = ?, created_us = ?, body = ? WHERE part = 0 AND name = ? IF version = ?",
    "drop_realm": "DELETE FROM realms WHERE part = 0 AND name = ? IF version = ?",
    "say": "INSERT INTO servers (part, server, said) VALUES (0, ?, ?) USING TTL ?",
    "note": "INSERT INTO notes (name, value) VALUES (?, ?)",
    "put_opaque": "UPDATE opaque USING TIMESTAMP ? AND TTL ? SET value = ?" + f" {_NAMED}",
    "drop_opaque": f"DELETE FROM opaque USING TIMESTAMP ? {_NAMED}",
    "opaque_tombstone": "INSERT INTO opaque_tombstones (realm, name, until_us, at_us, removed_us)"
    " VALUES (?, ?, ?, ?, ?) USING TTL ?",
}


class Statements(Prepared):
    """The prepared statements: ``read["head"]``, ``write["next_head"]``."""

    @classmethod
    async def prepare(cls, session: Session) -> "Statements":
        """Prepares them all. Raises Unavailable."""
        return await cls.of(session, _READS, _WRITES)
