"""Idempotency: the identity of a logical write, minted once and kept over all its retries."""

import os
import time
import uuid

from google.protobuf.timestamp_pb2 import Timestamp

from wellspring.storage.v1 import storage_pb2


class WriteTokens:
    """Mints storage tokens whose times strictly increase, so that of two writes of one client the later one wins."""

    def __init__(self) -> None:
        self._last_us = 0

    def next(self) -> storage_pb2.WriteToken:
        """A token that was never given before."""
        self._last_us = max(self._last_us + 1, time.time_ns() // 1000)
        stamp = Timestamp()
        stamp.FromMicroseconds(self._last_us)
        return storage_pb2.WriteToken(time=stamp, nonce=os.urandom(16))


def request_id() -> str:
    """A request id that was never given before (UUID, version 4)."""
    return str(uuid.uuid4())
