"""What the doctor looks at: each check says what it found and, when that is bad, how to mend it."""

import ctypes
import email.utils
import importlib
import os
import resource
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

from tools.platform import data_directory, health, ports
from tools.platform.data_directory import DataDirectoryError
from tools.platform.layout import SERVICES

GOOD, WARNING, BAD = "good", "warning", "bad"
OLDEST_PYTHON: Final = (3, 11)
LOW_DISK_BYTES: Final = 1 << 30
FULL_DISK_BYTES: Final = 256 << 20
FEW_FILES: Final = 4096
SKEW_S: Final = 5.0
"""Storage takes writes whose clock is at most 60 s off (Namespace.max_clock_drift); one should know long before."""
_COMPILED: Final = ("grpc", "google.protobuf", "rocksdict", "pyroaring", "uvloop", "numpy", "cryptography")
_DISTRIBUTIONS: Final = ("grpcio", "protobuf", "rocksdict", "pyroaring", "uvloop", "aiohttp", "cryptography")
_SET_BY_NOBODY: Final = 0x0040
"""STA_UNSYNC of adjtimex(2): no program keeps the kernel's clock right."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found: `level` is good, warning or bad; `mend` says what to do about it."""

    check: str
    level: str
    what: str
    mend: str = ""


def all_findings(data: Path, addresses: Mapping[str, str], local: bool) -> Iterator[Finding]:
    """Every check. `local`: the services are those of the data directory on this machine."""
    yield python()
    yield from packages()
    yield setpriv()
    yield open_files()
    yield from data_folder(data)
    yield disk(data)
    yield clock(data)
    reached = {name: health.check(addresses[name]) for name in SERVICES}
    if local and health.UNREACHABLE in reached.values():
        yield from free_ports(data, addresses, reached)
    yield from services(addresses, reached)
    yield from readers(addresses["http"])


def python() -> Finding:
    """The interpreter."""
    version = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info[:2] < OLDEST_PYTHON or sys.maxsize < 2**32:
        need = ".".join(str(part) for part in OLDEST_PYTHON)
        return Finding("python", BAD, f"{version} at {sys.executable}", f"use a 64-bit Python {need} or newer")
    return Finding("python", GOOD, f"{version} at {sys.executable}")


def packages() -> Iterator[Finding]:
    """The compiled packages load, and which versions they are."""
    for module in _COMPILED:
        try:
            importlib.import_module(module)
        except ImportError as error:
            mend = "run it by ./bazelw run //:wellspring, or from a bundle for this Python and this machine"
            yield Finding("packages", BAD, f"{module} does not load ({error.name or 'shared library'})", mend)
    versions = []
    for name in _DISTRIBUTIONS:
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    yield Finding("versions", GOOD, ", ".join(versions) or "not told by this installation")


def setpriv() -> Finding:
    """The program that lets services end with their parent."""
    path = shutil.which("setpriv")
    if path is None:
        return Finding("setpriv", BAD, "is not on PATH", "install util-linux: apt install util-linux")
    return Finding("setpriv", GOOD, path)


def open_files() -> Finding:
    """How many files a process may have open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < FEW_FILES:
        mend = f"ulimit -n {min(hard, 65_536)} before `wellspring up`; for good in /etc/security/limits.conf"
        return Finding("open files", WARNING, f"at most {soft} a process", mend)
    return Finding("open files", GOOD, f"{soft} a process")


def data_folder(data: Path) -> Iterator[Finding]:
    """The data directory: whose it is, which format, who uses it."""
    if not data.exists():
        yield Finding("data", GOOD, f"{data} is not there yet; `wellspring up` makes it")
        return
    if not os.access(data, os.R_OK | os.W_OK | os.X_OK):
        mend = f"chown -R {os.getuid()} {data}, or another directory with --data"
        yield Finding("data", BAD, f"{data} may not be read and written by user {os.getuid()}", mend)
        return
    try:
        described = data_directory.read(data)
    except DataDirectoryError as error:
        yield Finding("data", BAD, str(error), "see there")
        return
    if described is None and any(data.iterdir()):
        yield Finding("data", BAD, f"{data} holds other files than Wellspring's", "another directory with --data")
    elif described is None or not data_directory.is_held(data):
        yield Finding("data", GOOD, f"{data}, in use by nobody")
    else:
        yield Finding("data", GOOD, f"{data}, in use by the platform of process {described.pid}")


def disk(data: Path) -> Finding:
    """Room for data."""
    place = next(folder for folder in (data, *data.absolute().parents) if folder.exists())
    free = shutil.disk_usage(place).free
    what = f"{free / (1 << 30):.1f} GiB free at {place}"
    mend = "make room, or name a directory on a larger disk with --data"
    if free < FULL_DISK_BYTES:
        return Finding("disk", BAD, what, mend)
    return Finding("disk", WARNING if free < LOW_DISK_BYTES else GOOD, what, mend if free < LOW_DISK_BYTES else "")


def clock(data: Path) -> Finding:
    """The clock: not behind what is stored, and kept right by somebody."""
    mend = "set it, and let a time service keep it: timedatectl set-ntp true"
    now = time.time()
    newest = max((file.stat().st_mtime for file in _described(data)), default=0.0)
    if newest > now + SKEW_S:
        what = f"is {newest - now:.0f} s behind what was written into {data}: it was set back"
        return Finding("clock", BAD, what, mend)
    if _kept_by_nobody():
        return Finding("clock", WARNING, "no time service keeps it right", mend)
    return Finding("clock", GOOD, time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(now)))


def free_ports(data: Path, addresses: Mapping[str, str], reached: Mapping[str, str]) -> Iterator[Finding]:
    """Ports that services want and somebody else has."""
    wanted = {name: int(addresses[name].rpartition(":")[2]) for name in (*SERVICES, ports.HTTP)}
    down = {name: port for name, port in wanted.items() if reached.get(name, health.UNREACHABLE) != health.SERVING}
    if data_directory.is_held(data):
        return
    for name, port in ports.wanted(down):
        if not ports.is_free(port):
            mend = f"end what listens there (ss -ltnp 'sport = :{port}'), or: wellspring up --port-base 0"
            yield Finding("ports", BAD, f"port {port}, meant for {name}, is in use by another program", mend)


def services(addresses: Mapping[str, str], reached: Mapping[str, str]) -> Iterator[Finding]:
    """Each service's own word on its health."""
    for name, status in reached.items():
        where = f"{name} at {addresses[name]}"
        if status == health.SERVING:
            yield Finding("services", GOOD, f"{where} works")
        elif status == health.UNREACHABLE:
            yield Finding("services", BAD, f"{where} does not answer", "wellspring up, or --address if it is elsewhere")
        else:
            mend = "its log says what it waits for: logs in the data directory"
            yield Finding("services", BAD, f"{where} answers, but cannot work ({status})", mend)


def readers(address: str) -> Iterator[Finding]:
    """The gateway over HTTP, and its clock beside ours."""
    try:
        with urllib.request.urlopen(f"http://{address}/healthz", timeout=2) as answer:
            date = answer.headers.get("Date")
    except (urllib.error.URLError, OSError):
        mend = "wellspring up, or --address http=HOST:PORT if it is elsewhere"
        yield Finding("readers", BAD, f"http://{address} does not answer", mend)
        return
    yield Finding("readers", GOOD, f"http://{address} works")
    skew = time.time() - email.utils.parsedate_to_datetime(date).timestamp() if date else 0.0
    # The header has whole seconds.
    if abs(skew) > SKEW_S + 1:
        mend = "set the clocks of both machines by a time service: timedatectl set-ntp true"
        yield Finding(
            "clock", BAD, f"differs from the gateway's by {skew:.0f} s; writes are refused from 60 s on", mend
        )


def _described(data: Path) -> Iterator[Path]:
    return (file for file in data.glob("*") if file.is_file())


def _kept_by_nobody() -> bool:
    class Timex(ctypes.Structure):
        # adjtimex(2): `status` is the fifth word; what follows is not looked at.
        _fields_ = (
            ("modes", ctypes.c_int),
            ("offset", ctypes.c_long),
            ("frequency", ctypes.c_long),
            ("maxerror", ctypes.c_long),
            ("esterror", ctypes.c_long),
            ("status", ctypes.c_int),
            ("rest", ctypes.c_byte * 256),
        )

    asked = Timex(modes=0)
    try:
        answered = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(asked))
    except (OSError, AttributeError):
        return False
    return answered >= 0 and bool(asked.status & _SET_BY_NOBODY)
