"""A real gRPC server in a thread of its own, whose methods are functions of the test; and a small storage service over
a dict.
"""

import asyncio
import collections
import threading

import grpc
from google.protobuf.any_pb2 import Any
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from wellspring.storage.v1 import storage_admin_pb2, storage_pb2

CODES = {code.value[0]: code for code in grpc.StatusCode}


def status(code, reason, message="it is so", metadata=None, violations=(), retry_s=None):
    """A rich status as the services make it."""
    made = status_pb2.Status(code=code, message=message)
    details = [error_details_pb2.ErrorInfo(reason=reason, domain="wellspring", metadata=metadata or {})]
    if violations:
        kind = error_details_pb2.BadRequest.FieldViolation
        details.append(
            error_details_pb2.BadRequest(field_violations=[kind(field=f, description=d) for f, d in violations])
        )
    if retry_s is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(int(retry_s * 1e9))
        details.append(retry)
    for detail in details:
        packed = Any()
        packed.Pack(detail)
        made.details.append(packed)
    return made


class Fail(Exception):
    """Raised by a fake method: the call ends with this status."""

    def __init__(self, code, reason="", pushback_ms=None, **details):
        super().__init__(reason)
        self.status = status(code, reason, **details) if reason else None
        self.code = code
        self.pushback_ms = pushback_ms

    async def abort(self, context):
        trailers = [("grpc-status-details-bin", self.status.SerializeToString())] if self.status else []
        if self.pushback_ms is not None:
            trailers.append(("grpc-retry-pushback-ms", str(self.pushback_ms)))
        await context.abort(CODES[self.code], self.status.message if self.status else "plain", tuple(trailers))


class Server:
    """``methods``: "Service/Method" -> async function (request, context) giving an answer, or an async generator
    function.

    ``calls`` has, by method, the requests that came; ``metadata`` the headers of the last one.
    """

    def __init__(self, methods, services=(), credentials=None):
        self.methods, self.services, self.credentials = dict(methods), services, credentials
        self.calls = collections.defaultdict(list)
        self.metadata = {}
        self.remaining_s = None
        self.port = 0

    def __enter__(self):
        started = threading.Event()

        async def serve():
            self._stop = asyncio.Event()
            self._loop = asyncio.get_running_loop()
            server = grpc.aio.server()
            for descriptor in self.services:
                server.add_generic_rpc_handlers((self._handlers(descriptor),))
            where = f"127.0.0.1:{self.port}"
            if self.credentials:
                self.port = server.add_secure_port(where, self.credentials)
            else:
                self.port = server.add_insecure_port(where)
            await server.start()
            started.set()
            await self._stop.wait()
            await server.stop(0)

        self._thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
        self._thread.start()
        assert started.wait(60)
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(60)

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def _handlers(self, descriptor):
        handlers = {}
        for method in descriptor.methods:
            name = f"{descriptor.name}/{method.name}"
            kind = {
                (False, False): (grpc.unary_unary_rpc_method_handler, self._unary),
                (False, True): (grpc.unary_stream_rpc_method_handler, self._stream),
                (True, False): (grpc.stream_unary_rpc_method_handler, self._upload),
            }[method.client_streaming, method.server_streaming]
            handlers[method.name] = kind[0](
                kind[1](name), method.input_type._concrete_class.FromString, lambda m: m.SerializeToString()
            )
        return grpc.method_handlers_generic_handler(descriptor.full_name, handlers)

    def _note(self, name, request, context):
        self.calls[name].append(request)
        self.metadata = dict(context.invocation_metadata())
        self.remaining_s = context.time_remaining()

    def _unary(self, name):
        async def handle(request, context):
            self._note(name, request, context)
            try:
                return await self.methods[name](request, context)
            except Fail as fail:
                await fail.abort(context)

        return handle

    def _stream(self, name):
        async def handle(request, context):
            self._note(name, request, context)
            try:
                async for answer in self.methods[name](request, context):
                    yield answer
            except Fail as fail:
                await fail.abort(context)

        return handle

    def _upload(self, name):
        async def handle(requests, context):
            self._note(name, [request async for request in requests], context)
            return await self.methods[name](self.calls[name][-1], context)

        return handle


STORAGE = [
    storage_pb2.DESCRIPTOR.services_by_name["Storage"],
    storage_admin_pb2.DESCRIPTOR.services_by_name["StorageAdmin"],
]


class FakeStorage:
    """Records in a dict: enough of the contract to see that the SDK speaks it. Tokens are remembered, as the real one
    does.
    """

    def __init__(self):
        self.records = collections.defaultdict(dict)
        self.tokens = {}
        self.version = 0

    def methods(self):
        return {
            "StorageAdmin/CreateNamespace": self.create,
            "Storage/Put": self.put,
            "Storage/Get": self.get,
            "Storage/BatchMutate": self.batch_mutate,
            "Storage/BatchGet": self.batch_get,
            "Storage/Scan": self.scan,
        }

    async def create(self, request, context):
        return request.namespace

    def apply(self, namespace, record, item, condition, token):
        key = token.SerializeToString()
        if key in self.tokens:
            return self.tokens[key]
        there = self.records[record].get(item.key)
        kind = condition.WhichOneof("kind")
        if (kind == "absent" and there) or (kind == "etag" and condition.etag != (there.etag if there else "")):
            raise Fail(10, "CONDITION_FAILED", metadata={"etag": there.etag if there else ""})
        self.version += 1
        stored = storage_pb2.Item()
        stored.CopyFrom(item)
        stored.etag = f"e{self.version}"
        self.records[record][item.key] = stored
        receipt = storage_pb2.Receipt(outcome=storage_pb2.OUTCOME_APPLIED, etag=stored.etag)
        self.tokens[key] = storage_pb2.Receipt(outcome=storage_pb2.OUTCOME_REPEATED, etag=stored.etag)
        return receipt

    async def put(self, request, context):
        if request.namespace != "notes":
            raise Fail(5, "NAMESPACE_NOT_FOUND", message=f"there is no namespace {request.namespace}")
        receipt = self.apply(request.namespace, request.record, request.item, request.condition, request.token)
        return storage_pb2.PutResponse(receipt=receipt)

    def read(self, request):
        items = [item for _, item in sorted(self.records.get(request.record, {}).items())]
        chosen = request.selection
        if chosen.HasField("keys"):
            items = [item for item in items if item.key in chosen.keys.keys]
        start = int(request.page_token or 0)
        page = items[start : start + 2]
        more = start + 2 < len(items)
        return storage_pb2.GetResponse(items=page, next_page_token=str(start + 2) if more else "", found=bool(items))

    async def get(self, request, context):
        return self.read(request)

    async def batch_mutate(self, request, context):
        answer = storage_pb2.BatchMutateResponse()
        for one in request.requests:
            result = answer.results.add()
            if one.record == b"bad":
                result.status.CopyFrom(status(3, "VALUE_TOO_LARGE"))
            else:
                mutation = one.mutations[0]
                receipt = self.apply(one.namespace, one.record, mutation.put, mutation.condition, one.token)
                result.receipt.CopyFrom(receipt)
        return answer

    async def batch_get(self, request, context):
        answer = storage_pb2.BatchGetResponse()
        for index, one in enumerate(request.requests):
            result = answer.results.add()
            if index >= 3:
                result.status.CopyFrom(status(8, "BATCH_BUDGET_SPENT"))
            else:
                result.response.CopyFrom(self.read(one))
        return answer

    async def scan(self, request, context):
        start = int(request.resume_token or 0)
        records = sorted(self.records)
        for index in range(start, len(records)):
            items = [item for _, item in sorted(self.records[records[index]].items())]
            record = storage_pb2.ScanResponse.Record(record=records[index], items=items)
            yield storage_pb2.ScanResponse(records=[record], resume_token=str(index + 1))
            if index % 3 == 1:
                raise Fail(14, "SERVER_DRAINING", retry_s=0.001)
