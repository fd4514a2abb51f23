"""The streams of the storage bench: a whole namespace scanned, and one big value sent and fetched with the server's
memory watched. Its peer reads the same with the engine's own iterator (``storage_raw``)."""

import os
import time
from collections.abc import Iterator
from typing import Any, Final

import google_crc32c
import grpc

from tools.bench.figures import Figures, log
from tools.bench.rpc import Started
from tools.bench.rpc_load import LoadError
from tools.bench.storage_calls import Work, call
from tools.bench.storage_world import SERVICE, SPACE, Requests, check_many, forget_peak, memory_mib
from wellspring.storage.v1 import storage_pb2 as pb
from wellspring_client.tokens import WriteTokens

MIB: Final = 1 << 20
_CHUNK: Final = os.urandom(MIB)
_BIG: Final = b"big"
_AT_ONCE: Final = 1_000
"""Records of an answer of a scan."""
_PATIENCE_S: Final = 1_800


def scan(running: Started, requests: Requests, scan_mib: int, value_bytes: int, rounds: int) -> Figures:
    """Fills the namespace with about ``scan_mib`` of records, and scans it ``rounds`` times; the best counts. MiB are
    of keys and values. Raises LoadError when not each record comes once."""
    batches = max(1, scan_mib * MIB // (value_bytes * requests.batch))
    call(running, Work("fill", "PutMany", requests.many, requests.batch, check_many), batches)
    best_s, size = 0.0, 0
    with grpc.insecure_channel(running.address, options=[("grpc.max_receive_message_length", 64 * MIB)]) as channel:
        ask = channel.unary_stream(f"/{SERVICE}/Scan", pb.ScanRequest.SerializeToString, bytes)
        for _ in range(rounds):
            began = time.perf_counter()
            answers: list[bytes] = list(
                ask(pb.ScanRequest(namespace=SPACE, batch_records=_AT_ONCE), timeout=_PATIENCE_S)
            )
            took_s = time.perf_counter() - began
            size = _size_of(answers, requests.records)
            best_s = min(best_s or took_s, took_s)
    log(f"scan: {size / MIB / best_s:,.0f} MiB a second")
    return {"scan_records": requests.records, "scan_mib_per_s": round(size / MIB / best_s, 1)}


def _size_of(answers: list[bytes], records: int) -> int:
    """Of the keys and values in a scan's answers."""
    size = count = 0
    last = b""
    for answer in answers:
        for one in pb.ScanResponse.FromString(answer).records:
            if one.record <= last or one.partial:
                raise LoadError(f"a scan came back to {one.record!r}, or tore it")
            last = one.record
            count += 1
            size += len(one.record) + sum(len(item.value) for item in one.items)
    if count != records:
        raise LoadError(f"a scan told {count} records of {records}")
    return size


def big_value(running: Started, blob_mib: int) -> Figures:
    """Sends and fetches one value of ``blob_mib``; how far the server's memory rose above what it had before either.
    Raises LoadError when other bytes come back."""
    pid = running.pids[0]
    idle_mib = memory_mib(pid, "VmRSS")
    figures: Figures = {"blob_mib": blob_mib}
    with grpc.insecure_channel(running.address) as channel:
        for name, work in (("upload", _upload), ("download", _download)):
            forget_peak(pid)
            began = time.perf_counter()
            work(channel, blob_mib)
            took_s = time.perf_counter() - began
            figures[f"{name}_mib_per_s"] = round(blob_mib / took_s, 1)
            figures[f"{name}_memory_mib"] = round(max(0.0, memory_mib(pid, "VmHWM") - idle_mib), 1)
            log(f"{name}: {figures[f'{name}_mib_per_s']} MiB a second, {figures[f'{name}_memory_mib']} MiB above idle")
    return figures


def _upload(channel: grpc.Channel, blob_mib: int) -> None:
    def sent() -> Iterator[pb.UploadRequest]:
        header = pb.UploadRequest.Header(namespace=SPACE, record=_BIG, token=WriteTokens().next())
        yield pb.UploadRequest(header=header)
        for number in range(blob_mib):
            yield pb.UploadRequest(chunk=_piece(number))
        yield pb.UploadRequest(finish=pb.UploadRequest.Finish(crc32c=_crc(blob_mib)))

    ask: Any = channel.stream_unary(
        f"/{SERVICE}/Upload", pb.UploadRequest.SerializeToString, pb.UploadResponse.FromString
    )
    told = ask(sent(), timeout=_PATIENCE_S)
    if told.receipt.outcome != pb.OUTCOME_APPLIED:
        raise LoadError(f"the upload was not applied: {told}")


def _download(channel: grpc.Channel, blob_mib: int) -> None:
    ask: Any = channel.unary_stream(
        f"/{SERVICE}/Download", pb.DownloadRequest.SerializeToString, pb.DownloadResponse.FromString
    )
    crc = size = 0
    for told in ask(pb.DownloadRequest(namespace=SPACE, record=_BIG), timeout=_PATIENCE_S):
        crc = google_crc32c.extend(crc, told.chunk)
        size += len(told.chunk)
    if size != blob_mib * MIB or crc != _crc(blob_mib):
        raise LoadError(f"other bytes came back: {size} of {blob_mib * MIB}")


def _piece(number: int) -> bytes:
    """Each of them another."""
    return number.to_bytes(8, "big") + _CHUNK[8:]


def _crc(blob_mib: int) -> int:
    crc = 0
    for number in range(blob_mib):
        crc = google_crc32c.extend(crc, _piece(number))
    return crc
