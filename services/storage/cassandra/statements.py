"""Every statement that the backend sends, prepared once; each says with its name what it does."""

from typing import Final

from libs.cassandra.session import Session
from libs.cassandra.statements import Prepared

_RECORD: Final = "WHERE space = ? AND record = ?"
_ROW: Final = f"{_RECORD} AND kind = ? AND key = ?"
_SLICE: Final = f"SELECT key, value FROM records {_RECORD} AND (kind, key) >= (?, ?) AND (kind, key) < (?, ?)"
_LANE: Final = "WHERE space = ? AND lane = ?"
_SLOT: Final = f"{_LANE} AND slot = ?"
_CHANGE: Final = "seq, record, event, void, records, mutation, events, told"
_LWW_SLICE: Final = f"SELECT key, value, more FROM lww {_RECORD} AND (kind, key) >= (?, ?) AND (kind, key) < (?, ?)"
_BUCKET: Final = "WHERE space = ? AND record = ? AND run = ? AND bucket = ?"
_BETWEEN: Final = "(kind, key) >= (?, ?) AND (kind, key) < (?, ?)"
_SPREAD_SLICE: Final = f"SELECT key, value FROM lww_spread {_BUCKET} AND {_BETWEEN}"
_ENTRY: Final = "WHERE slot = ? AND shard = ? AND due_us = ? AND space = ? AND kind = ? AND rest = ?"

_READS: Final = {
    "rows": f"SELECT kind, key, value, rev, outbox FROM records {_RECORD} AND (kind, key) IN ?",
    "stamped_row": f"SELECT value, writetime(value) FROM records {_ROW}",
    "slice": f"{_SLICE} LIMIT ?",
    "slice_back": f"{_SLICE} ORDER BY kind DESC, key DESC LIMIT ?",
    "indexed": "SELECT record FROM record_index WHERE space = ? AND shard = ? AND record >= ? LIMIT ?",
    "sampled": "SELECT record FROM samples WHERE space = ?",
    "lww_rows": f"SELECT kind, key, value, more FROM lww {_RECORD} AND (kind, key) IN ?",
    "lww_many": "SELECT record, kind, key, value, more FROM lww WHERE space = ? AND record IN ? AND (kind, key) IN ?",
    "lww_stamped": f"SELECT value, writetime(value), more, writetime(more) FROM lww {_ROW}",
    "lww_begin": f"SELECT kind, key, value, more FROM lww {_RECORD} AND kind < 2 LIMIT ?",
    "lww_kind": f"SELECT key, value, writetime(value), more FROM lww {_RECORD} AND {_BETWEEN}",
    "spread_rows": f"SELECT kind, key, value FROM lww_spread {_BUCKET} AND (kind, key) IN ?",
    "spread_slice": f"{_SPREAD_SLICE} LIMIT ?",
    "spread_slice_back": f"{_SPREAD_SLICE} ORDER BY kind DESC, key DESC LIMIT ?",
    "spread_stamped": f"SELECT value, writetime(value) FROM lww_spread {_BUCKET} AND kind = ? AND key = ?",
    "spread_bucket": f"SELECT key, value, writetime(value) FROM lww_spread {_BUCKET}",
    "runs": "SELECT record, run, starts FROM lww_runs WHERE space = ?",
    "lww_begin_many": "SELECT record, kind, key, value, more FROM lww WHERE space = ? AND record IN ? AND kind < 2"
    " PER PARTITION LIMIT ?",
    "lww_slice": f"{_LWW_SLICE} LIMIT ?",
    "lww_slice_back": f"{_LWW_SLICE} ORDER BY kind DESC, key DESC LIMIT ?",
    "doubts": "SELECT lane, seq, record, told, mutation FROM doubts WHERE space = ?",
    "lane_places": "SELECT lane, trimmed, datacentre FROM feed_lanes WHERE space = ?",
    "lanes": "SELECT lane, trimmed FROM feed_lanes WHERE space = ?",
    "slots": f"SELECT slot FROM feed_slots {_LANE} AND slot >= ?",
    "changes": f"SELECT {_CHANGE} FROM feed {_SLOT} AND seq > ? LIMIT ?",
    "changes_back": f"SELECT {_CHANGE} FROM feed {_SLOT} AND seq <= ? ORDER BY seq DESC LIMIT ?",
    "change": f"SELECT {_CHANGE} FROM feed {_SLOT} AND seq >= ? LIMIT 1",
    "usages": "SELECT lane, records, items, size, seq, newest FROM usage WHERE space = ?",
    "due_slots": "SELECT slot, writetime(mark) FROM due_slots WHERE part = 0 AND slot <= ?",
    "due": "SELECT due_us, space, kind, rest, writetime(mark) FROM due"
    " WHERE slot = ? AND shard = ? AND due_us <= ? LIMIT ?",
    "any_due": "SELECT due_us FROM due WHERE slot = ? AND shard = ? LIMIT 1",
    "chunk": "SELECT value FROM chunks WHERE space = ? AND upload = ? AND part = ? AND number = ?",
    "stamped_chunk": (
        "SELECT value, writetime(value) FROM chunks WHERE space = ? AND upload = ? AND part = ? AND number = ?"
    ),
    "chunk_numbers": "SELECT number FROM chunks WHERE space = ? AND upload = ? AND part = ?",
    "uploads": "SELECT upload FROM uploads WHERE space = ?",
    "namespaces": "SELECT body FROM namespaces WHERE part = 0",
    "document": "SELECT body FROM documents WHERE kind = ? AND name = ?",
    "documents": "SELECT name, body FROM documents WHERE kind = ?",
    "shared": "SELECT value FROM shared WHERE name = ?",
}
_WRITES: Final = {
    "take": f"UPDATE records SET value = ?, rev = ?, outbox = ? {_RECORD} AND kind = 0 AND key = 0x IF rev = ?",
    "take_dead": f"UPDATE records USING TTL ? SET value = ?, rev = ?, outbox = ? {_RECORD}"
    " AND kind = 0 AND key = 0x IF rev = ?",
    "mend_row": f"UPDATE records USING TIMESTAMP ? SET value = ? {_ROW}",
    "put_row": f"UPDATE records SET value = ? {_ROW}",
    "put_token": f"UPDATE records USING TTL ? SET value = ? {_ROW}",
    "drop_row": f"DELETE FROM records {_ROW}",
    "drop_record": f"DELETE FROM records {_RECORD}",
    "lww_put": f"UPDATE lww USING TIMESTAMP ? SET value = ? {_ROW}",
    "lww_put_more": f"UPDATE lww USING TIMESTAMP ? SET more[?] = ? {_ROW}",
    "lww_lasting": f"UPDATE lww USING TIMESTAMP ? AND TTL ? SET value = ? {_ROW}",
    "lww_remember": f"UPDATE lww USING TIMESTAMP ? AND TTL ? SET value = ?, more[?] = ? {_ROW}",
    "lww_drop": f"DELETE value FROM lww USING TIMESTAMP ? {_ROW}",
    "lww_drop_more": f"DELETE more[?] FROM lww USING TIMESTAMP ? {_ROW}",
    "lww_drop_kind": f"DELETE FROM lww USING TIMESTAMP ? {_RECORD} AND kind = ?",
    "spread_put": f"UPDATE lww_spread USING TIMESTAMP ? SET value = ? {_BUCKET} AND kind = ? AND key = ?",
    "spread_drop": f"DELETE value FROM lww_spread USING TIMESTAMP ? {_BUCKET} AND kind = ? AND key = ?",
    "spread_drop_bucket": f"DELETE FROM lww_spread USING TIMESTAMP ? {_BUCKET}",
    "run": "INSERT INTO lww_runs (space, record, run, starts) VALUES (?, ?, ?, ?)",
    "drop_run": "DELETE FROM lww_runs WHERE space = ? AND record = ? AND run = ?",
    "drop_runs": "DELETE FROM lww_runs WHERE space = ?",
    "lww_drop_record": f"DELETE FROM lww USING TIMESTAMP ? {_RECORD}",
    "doubt": "INSERT INTO doubts (space, lane, seq, mutation, record, told) VALUES (?, ?, ?, ?, ?, ?)",
    "drop_doubt": "DELETE FROM doubts WHERE space = ? AND lane = ? AND seq = ?",
    "drop_doubts": "DELETE FROM doubts WHERE space = ?",
    "index": "INSERT INTO record_index (space, shard, record) VALUES (?, ?, ?) USING TIMESTAMP ?",
    "unindex": "DELETE FROM record_index USING TIMESTAMP ? WHERE space = ? AND shard = ? AND record = ?",
    "drop_index": "DELETE FROM record_index WHERE space = ? AND shard = ?",
    "sample": "INSERT INTO samples (space, record) VALUES (?, ?) USING TIMESTAMP ?",
    "unsample": "DELETE FROM samples USING TIMESTAMP ? WHERE space = ? AND record = ?",
    "drop_samples": "DELETE FROM samples WHERE space = ?",
    "lane": "INSERT INTO feed_lanes (space, lane, datacentre) VALUES (?, ?, ?)",
    "slot": "INSERT INTO feed_slots (space, lane, slot) VALUES (?, ?, ?)",
    "intend": "INSERT INTO feed (space, lane, slot, seq, record) VALUES (?, ?, ?, ?, ?)",
    "intend_remembered": "INSERT INTO feed (space, lane, slot, seq, record, mutation) VALUES (?, ?, ?, ?, ?, ?)",
    "intend_many": "INSERT INTO feed (space, lane, slot, seq, records, mutation) VALUES (?, ?, ?, ?, ?, ?)",
    "settle_many": f"UPDATE feed SET events = ? {_SLOT} AND seq = ?",
    "tell": f"UPDATE feed SET told[?] = ? {_SLOT} AND seq = ?",
    "settle": f"UPDATE feed SET event = ? {_SLOT} AND seq = ?",
    "void": f"UPDATE feed SET void = true {_SLOT} AND seq = ?",
    "trim": f"DELETE FROM feed {_SLOT} AND seq <= ?",
    "trimmed": f"UPDATE feed_lanes USING TIMESTAMP ? SET trimmed = ? {_LANE}",
    "drop_slot": f"DELETE FROM feed_slots {_SLOT}",
    "drop_changes": f"DELETE FROM feed {_SLOT}",
    "drop_slots": f"DELETE FROM feed_slots {_LANE}",
    "drop_lanes": "DELETE FROM feed_lanes WHERE space = ?",
    "count": f"UPDATE usage SET records = ?, items = ?, size = ?, seq = ?, newest = ? {_LANE}",
    "drop_usage": "DELETE FROM usage WHERE space = ?",
    "due_slot": "INSERT INTO due_slots (part, slot, mark) VALUES (0, ?, true)",
    "drop_due_slot": "DELETE FROM due_slots USING TIMESTAMP ? WHERE part = 0 AND slot = ?",
    "enter_due": "INSERT INTO due (slot, shard, due_us, space, kind, rest, mark) VALUES (?, ?, ?, ?, ?, ?, true)",
    "drop_due": f"DELETE FROM due USING TIMESTAMP ? {_ENTRY}",
    "put_chunk": "INSERT INTO chunks (space, upload, part, number, value) VALUES (?, ?, ?, ?, ?)",
    "mend_chunk": ("INSERT INTO chunks (space, upload, part, number, value) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?"),
    "drop_chunks": "DELETE FROM chunks WHERE space = ? AND upload = ? AND part = ?",
    "upload": "INSERT INTO uploads (space, upload) VALUES (?, ?)",
    "drop_upload": "DELETE FROM uploads WHERE space = ? AND upload = ?",
    "drop_uploads": "DELETE FROM uploads WHERE space = ?",
    "create_namespace": "INSERT INTO namespaces (part, name, number, body) VALUES (0, ?, ?, ?) IF NOT EXISTS",
    "replace_namespace": "UPDATE namespaces SET body = ? WHERE part = 0 AND name = ? IF body = ?",
    "drop_namespace": "DELETE FROM namespaces WHERE part = 0 AND name = ? IF number = ?",
    "put_document": "INSERT INTO documents (kind, name, body) VALUES (?, ?, ?)",
    "drop_document": "DELETE FROM documents WHERE kind = ? AND name = ?",
    "share": "INSERT INTO shared (name, value) VALUES (?, ?) IF NOT EXISTS",
    "reshare": "UPDATE shared SET value = ? WHERE name = ? IF value = ?",
}


class Statements(Prepared):
    """The prepared statements: ``read["rows"]``, ``write["take"]``."""

    @classmethod
    async def prepare(cls, session: Session) -> "Statements":
        """Prepares them all. Raises Unavailable."""
        return await cls.of(session, _READS, _WRITES)
