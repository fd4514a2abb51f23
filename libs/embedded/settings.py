"""How a store is tuned: the settings that an operator may change, the families of keys, and their translation for
RocksDB.
"""

import dataclasses
import enum

import rocksdict

KIB = 1024
MIB = 1024 * KIB


class Compression(enum.Enum):
    """How blocks are compressed on disk: LZ4 where data is read hot, ZSTD where size matters, NONE where it is dense
    already.
    """

    NONE = "none"
    LZ4 = "lz4"
    ZSTD = "zstd"


@dataclasses.dataclass(frozen=True, slots=True)
class FamilySpec:
    """A family: a key space of its own inside the store, with its own memory table and files.

    ``bloom_bits`` per key make a miss cheap (10: 1 % false positives; 0: none, for a family that is only scanned).
    ``block_bytes`` is what one read from disk brings. ``large_values_bytes``: values from this size on live in blob
    files, so that compaction need not copy them; None keeps all of them beside their keys.
    """

    name: str
    compression: Compression = Compression.LZ4
    bloom_bits: int = 10
    block_bytes: int = 16 * KIB
    large_values_bytes: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """Bounds of one store. Its memory is at most about ``cache_bytes`` + ``write_buffer_bytes`` + what waits for the
    disk.

    cache_bytes: blocks, indexes and filters read from disk. write_buffer_bytes: memory tables of all families together.
    log_bytes: size of the write-ahead log at which memory tables are written out, hence the bound on recovery's work.
    max_pending_commits: commits that may wait for the disk; beyond it, `room` waits and `submit` raises QueueFull.
    reserve_bytes: free space on the disk below which puts are refused (deletes are not), so that compaction can still
    make room. background_jobs: threads of RocksDB for flushes and compactions. open_files: file handles; -1 keeps all
    open.
    """

    cache_bytes: int = 64 * MIB
    write_buffer_bytes: int = 64 * MIB
    log_bytes: int = 128 * MIB
    max_pending_commits: int = 65_536
    reserve_bytes: int = 64 * MIB
    background_jobs: int = 2
    open_files: int = 512

    def __post_init__(self) -> None:
        for field, least in (
            ("cache_bytes", MIB),
            ("write_buffer_bytes", MIB),
            ("log_bytes", MIB),
            ("max_pending_commits", 1),
            ("reserve_bytes", 0),
            ("background_jobs", 1),
            ("open_files", -1),
        ):
            if getattr(self, field) < least:
                raise ValueError(f"Settings.{field} is {getattr(self, field)}; {least} or more is allowed")


def database_options(settings: Settings, cache: rocksdict.Cache) -> rocksdict.Options:
    """Options of the database as a whole."""
    options = rocksdict.Options(raw_mode=True)
    options.create_if_missing(True)
    options.create_missing_column_families(True)
    # Recovery keeps a prefix of what was written, in order; watermark.py checks that the prefix holds all that was
    # acknowledged.
    options.set_wal_recovery_mode(rocksdict.DBRecoveryMode.point_in_time())
    options.set_paranoid_checks(True)
    options.set_write_buffer_manager(
        rocksdict.WriteBufferManager.new_write_buffer_manager_with_cache(settings.write_buffer_bytes, False, cache)
    )
    options.set_max_total_wal_size(settings.log_bytes)
    options.set_max_background_jobs(settings.background_jobs)
    options.set_max_open_files(settings.open_files)
    options.set_bytes_per_sync(MIB)
    options.set_keep_log_file_num(4)
    options.set_max_log_file_size(4 * MIB)
    options.set_stats_dump_period_sec(0)
    options.set_stats_persist_period_sec(0)
    return options


def family_options(spec: FamilySpec, settings: Settings, cache: rocksdict.Cache) -> rocksdict.Options:
    """Options of one family."""
    options = rocksdict.Options(raw_mode=True)
    table = rocksdict.BlockBasedOptions()
    table.set_block_cache(cache)
    table.set_block_size(spec.block_bytes)
    table.set_format_version(5)
    table.set_cache_index_and_filter_blocks(True)
    # In pieces: the cache is divided into 64 parts, and a whole filter of millions of keys is larger than one of them,
    # so it would be read again for every key.
    table.set_index_type(rocksdict.BlockBasedIndexType.two_level_index_search())
    table.set_partition_filters(True)
    table.set_metadata_block_size(4 * KIB)
    table.set_pin_top_level_index_and_filter(True)
    table.set_pin_l0_filter_and_index_blocks_in_cache(True)
    if spec.bloom_bits:
        table.set_bloom_filter(spec.bloom_bits, False)
    options.set_block_based_table_factory(table)
    options.set_compression_type(
        {
            Compression.NONE: rocksdict.DBCompressionType.none,
            Compression.LZ4: rocksdict.DBCompressionType.lz4,
            Compression.ZSTD: rocksdict.DBCompressionType.zstd,
        }[spec.compression]()
    )
    options.set_level_compaction_dynamic_level_bytes(True)
    # One family may fill half of the memory that all share before its table is written out.
    options.set_write_buffer_size(max(MIB, settings.write_buffer_bytes // 2))
    if spec.large_values_bytes is not None:
        options.set_enable_blob_files(True)
        options.set_min_blob_size(spec.large_values_bytes)
        options.set_enable_blob_gc(True)
    return options
