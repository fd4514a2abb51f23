"""Clients that compare and set the same few records all at once, and note what they did.

Some send a request whose answer was lost again until they are told what became of it, some give up and never know.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import Callable, Sequence
from typing import Any, Final

import grpc
from google.rpc import status_pb2  # type: ignore[import-untyped]

from libs.rpc.errors import DETAILS_KEY
from services.storage.rig import token, told
from tests.histories.recording import PATIENT_S, History, Operation, now
from wellspring.storage.v1 import storage_admin_pb2 as admin_pb
from wellspring.storage.v1 import storage_admin_pb2_grpc, storage_pb2_grpc
from wellspring.storage.v1 import storage_pb2 as pb

NAMESPACE: Final = "cas"
DEADLINE_S: Final = 3.0
"""Of each call: a server that is stopped for longer has its callers give up or ask again."""
RETRY_S: Final = 0.05
LOST: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED)
ITEM: Final = pb.Selection(keys=pb.Keys(keys=[b""]))
CHOICES: Final = {"get": 30, "replace": 34, "create": 14, "remove": 12, "overwrite": 6, "clear": 4}
"""What a client does next, and how often of a hundred: the last two are without a condition."""
REMEMBERED: Final = 4
"""So many etags of a record, the newest last: an old one must be refused."""


def channel(address: str) -> grpc.aio.Channel:
    """To a server that comes back soon after it was killed."""
    options = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 200)]
    return grpc.aio.insecure_channel(address, options=options)


async def create_namespace(servers: Sequence[grpc.aio.Channel], settings: admin_pb.Namespace) -> None:
    """The namespace of all histories, in CAS and with more ``settings``; known to all of the servers, which look for
    new ones now and then."""
    space = admin_pb.Namespace(name=NAMESPACE, mode=admin_pb.MODE_CAS)
    space.MergeFrom(settings)
    request = admin_pb.CreateNamespaceRequest(namespace=space)
    await storage_admin_pb2_grpc.StorageAdminStub(servers[0]).CreateNamespace(request, timeout=PATIENT_S)
    for server in servers:
        stub: Any = storage_pb2_grpc.StorageStub(server)
        async with asyncio.timeout(PATIENT_S):
            while not await _knows(stub):  # noqa: ASYNC110 - the server tells nobody
                await asyncio.sleep(RETRY_S)


async def _knows(stub: Any) -> bool:
    """Whether the server has the namespace by now."""
    try:
        await stub.Get(_get_request("r"), timeout=PATIENT_S)
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.NOT_FOUND:
            return False
        raise
    return True


class Client:
    """One of them. ``allowance()`` says how many answers it may have given up on by now: each leaves the judge with one
    more write that may or may not have happened, and too many of them cannot be judged."""

    def __init__(
        self,
        number: int,
        to: grpc.aio.Channel,
        history: History,
        records: Sequence[str],
        chance: random.Random,
        allowance: Callable[[], int],
    ) -> None:
        self._number = number
        self._stub: Any = storage_pb2_grpc.StorageStub(to)
        self._history = history
        self._records = records
        self._chance = chance
        self._allowance = allowance
        self._given_up = 0
        self._written = 0
        self._etags: dict[str, list[str]] = {record: [] for record in records}

    async def run(self, stopping: asyncio.Event) -> None:
        """One call after the other, until ``stopping``; what is under way then is brought to its end."""
        while not stopping.is_set():
            record = self._chance.choice(self._records)
            choice = self._chance.choices(list(CHOICES), list(CHOICES.values()))[0]
            known = self._etags[record]
            if choice == "get" or (choice in ("replace", "remove") and not known):
                await self._get(record)
                continue
            conditions: dict[str, Any] = {}
            if choice == "create":
                conditions["if_absent"] = True
            elif choice in ("replace", "remove"):
                conditions["if_etag"] = known[-1] if self._chance.random() < 0.8 else self._chance.choice(known)
            if choice in ("remove", "clear"):
                await self._write(Operation(self._number, record, "delete", now(), **conditions))
            else:
                self._written += 1
                value = f"{record}/{self._number}/{self._written}"
                await self._write(Operation(self._number, record, "put", now(), value=value, **conditions))

    async def _get(self, record: str) -> None:
        """A read; one whose answer was lost tells nothing."""
        called = now()
        try:
            answer = await self._stub.Get(_get_request(record), timeout=DEADLINE_S)
        except grpc.aio.AioRpcError as error:
            self._lose(error)
            await asyncio.sleep(RETRY_S)
            return
        operation = Operation(self._number, record, "get", called, now())
        for item in answer.items:
            operation = dataclasses.replace(operation, value=item.value.decode(), etag=item.etag)
            self._learn(record, item.etag)
        self._history.add(operation)

    async def _write(self, operation: Operation) -> None:
        """A put or a delete, noted with its outcome."""
        method, request = self._request(operation)
        gives_up = self._chance.random() < 0.5
        lost = False
        while True:
            called = now()
            try:
                receipt = (await method(request, timeout=DEADLINE_S)).receipt
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.ABORTED:
                    self._refused(operation, called, _current(error), lost)
                    return
                self._lose(error)
                lost = True
                if gives_up and self._given_up < self._allowance():
                    self._given_up += 1
                    self._history.add(dataclasses.replace(operation, outcome="unknown"))
                    return
                await asyncio.sleep(RETRY_S)
                continue
            if operation.op == "put":
                operation = dataclasses.replace(operation, etag=receipt.etag)
                self._learn(operation.record, receipt.etag)
            else:
                operation = dataclasses.replace(operation, removed=receipt.deleted_items > 0)
            self._history.add(dataclasses.replace(operation, returned=now()))
            return

    def _refused(self, operation: Operation, called: int, etag: str, lost: bool) -> None:
        """What is there was seen by the last attempt, called at ``called``.

        An earlier one whose answer was lost did not happen before (it would have been remembered), but may still be on
        its way. With an etag it can do nothing any more, as no etag comes back; where nothing must be there, it can.
        """
        if lost and operation.if_absent:
            self._history.add(dataclasses.replace(operation, outcome="unknown"))
        self._history.add(dataclasses.replace(operation, called=called, returned=now(), outcome="refused", etag=etag))

    def _request(self, operation: Operation) -> tuple[Any, Any]:
        """The call and its message."""
        record = operation.record.encode()
        request: Any
        if operation.op == "put":
            item = pb.Item(value=operation.value.encode())
            method, request = self._stub.Put, pb.PutRequest(namespace=NAMESPACE, record=record, item=item)
        else:
            request = pb.DeleteRequest(namespace=NAMESPACE, record=record, selection=ITEM, allow_missing=True)
            method = self._stub.Delete
        request.token.CopyFrom(token())
        if operation.if_absent:
            request.condition.absent = True
        elif operation.if_etag:
            request.condition.etag = operation.if_etag
        return method, request

    def _lose(self, error: grpc.aio.AioRpcError) -> None:
        """Raises ``error`` unless it leaves open what became of the call."""
        if error.code() not in LOST:
            raise error
        self._history.lose()

    def _learn(self, record: str, etag: str) -> None:
        known = self._etags[record]
        if etag not in known:
            known.append(etag)
            del known[:-REMEMBERED]


def _get_request(record: str) -> pb.GetRequest:
    return pb.GetRequest(namespace=NAMESPACE, record=record.encode(), selection=ITEM)


def _current(error: grpc.aio.AioRpcError) -> str:
    """The etag that a refusal names as the current one."""
    trailers: Any = error.trailing_metadata() or ()
    refusal = told(error.code(), status_pb2.Status.FromString(dict(trailers)[DETAILS_KEY]))
    if refusal.reason != "CONDITION_FAILED":
        raise error
    return refusal.metadata["etag"]
