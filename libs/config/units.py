"""Durations and sizes as people write them: "1h30m", "250ms", "64MiB"."""

import re
from decimal import Decimal

_DURATION_NS = {
    "ns": 1,
    "us": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
}
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ns|us|ms|s|m|h|d)")

_SIZE_BYTES = {"": 1, "B": 1}
_SIZE_BYTES |= {prefix + "B": 1000**power for power, prefix in enumerate(["k", "M", "G", "T", "P"], 1)}
_SIZE_BYTES |= {prefix + "iB": 1024**power for power, prefix in enumerate(["K", "M", "G", "T", "P"], 1)}
_SIZE = re.compile(r"(-?[0-9][0-9_]*(?:\.[0-9]+)?) ?([A-Za-z]*)")

MAX_DURATION_NS = 10_000 * 366 * 86_400_000_000_000
"""Ten thousand years: what google.protobuf.Duration holds."""


def parse_duration(text: str) -> int:
    """Nanoseconds of a duration such as "1.5s" or "2h30m". Raises ValueError, saying what is allowed."""
    allowed = 'a duration with its unit is allowed, such as "500ms", "1.5s", "2h30m" or "7d"'
    total, end = Decimal(0), 0
    for part in _DURATION_PART.finditer(text):
        if part.start() != end:
            break
        total += Decimal(part[1]) * _DURATION_NS[part[2]]
        end = part.end()
    if not text or end != len(text):
        raise ValueError(allowed)
    if total != int(total) or total > MAX_DURATION_NS:
        raise ValueError("whole nanoseconds up to ten thousand years are allowed")
    return int(total)


def format_duration(ns: int) -> str:
    """The shortest text that :func:`parse_duration` reads back as ``ns`` (0 and more)."""
    if ns == 0:
        return "0s"
    parts = []
    for unit in ("d", "h", "m", "s"):
        count, ns = divmod(ns, _DURATION_NS[unit])
        if count:
            parts.append(f"{count}{unit}")
    for unit in ("ms", "us", "ns"):
        if ns and ns % _DURATION_NS[unit] == 0:
            parts.append(f"{ns // _DURATION_NS[unit]}{unit}")
            break
    return "".join(parts)


def parse_size(text: str) -> int:
    """Bytes of a size such as "64MiB", "1.5 GB" or "4096". Raises ValueError, saying what is allowed."""
    allowed = 'a size in bytes is allowed, such as 4096, "64MiB" or "1GB" (units kB to PB and KiB to PiB)'
    found = _SIZE.fullmatch(text)
    if found is None or found[2] not in _SIZE_BYTES:
        raise ValueError(allowed)
    size = Decimal(found[1].replace("_", "")) * _SIZE_BYTES[found[2]]
    if size != int(size):
        raise ValueError(allowed)
    return int(size)


def format_size(size_bytes: int) -> str | int:
    """A text such as "64MiB" where that is exact, else the number."""
    for prefix, power in (("Pi", 5), ("Ti", 4), ("Gi", 3), ("Mi", 2), ("Ki", 1)):
        if size_bytes and size_bytes % 1024**power == 0:
            return f"{size_bytes // 1024**power}{prefix}B"
    return size_bytes
