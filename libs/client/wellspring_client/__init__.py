"""The SDK of Wellspring: storage, sessions, propagation.

Synchronous::

    import wellspring_client

    with wellspring_client.connect(storage="127.0.0.1:8001", session="127.0.0.1:8002") as client:
        client.storage.create_namespace("notes", mode="CAS")
        notes = client.storage.namespace("notes")
        notes.put("monday", b"water the plants")
        note = notes.get("monday")
        notes.put("monday", note.value + b", twice", if_etag=note.etag)  # ConditionFailed if somebody was faster

The same with asyncio: :mod:`wellspring_client.aio`. What every call does: it has a deadline (``timeout=`` in seconds,
the client's otherwise), is retried while no server answers and the deadline allows, and raises the errors drawn at the
top of :mod:`wellspring_client.errors`. Every write carries a token that is minted once and kept over those retries;
after Unavailable or DeadlineExceeded, make the same call with the same ``token=`` (or ``request_id=``) to have the same
write.

``packed`` has the packed fields of propagation's work interface.
"""

from wellspring_client import aio, packed
from wellspring_client.channels import Tls
from wellspring_client.errors import (
    Aborted,
    AlreadyExists,
    AssertionInvalid,
    Cancelled,
    ClientClosed,
    ClockDrift,
    ConditionFailed,
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidRequest,
    LeaseLost,
    NotFound,
    OutOfRange,
    PageTokenInvalid,
    PermissionDenied,
    QuotaExceeded,
    ResumeTokenExpired,
    ServerFault,
    SessionInvalid,
    TokenReused,
    Unauthenticated,
    Unavailable,
    Unimplemented,
    ValueTooLarge,
    WellspringError,
)
from wellspring_client.propagation_admin import Output
from wellspring_client.record_codecs import RecordInvalid
from wellspring_client.records import Stored
from wellspring_client.session import Minted, Token, add_data, remove_data, set_data, set_data_once
from wellspring_client.storage_types import Delete, Put, Record
from wellspring_client.sync import Client, connect

__all__ = [
    "Aborted",
    "AlreadyExists",
    "AssertionInvalid",
    "Cancelled",
    "Client",
    "ClientClosed",
    "ClockDrift",
    "ConditionFailed",
    "DataLoss",
    "DeadlineExceeded",
    "Delete",
    "FailedPrecondition",
    "InvalidRequest",
    "LeaseLost",
    "Minted",
    "NotFound",
    "OutOfRange",
    "Output",
    "PageTokenInvalid",
    "PermissionDenied",
    "Put",
    "QuotaExceeded",
    "Record",
    "RecordInvalid",
    "ResumeTokenExpired",
    "ServerFault",
    "SessionInvalid",
    "Stored",
    "Tls",
    "Token",
    "TokenReused",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "ValueTooLarge",
    "WellspringError",
    "add_data",
    "aio",
    "connect",
    "packed",
    "remove_data",
    "set_data",
    "set_data_once",
]
