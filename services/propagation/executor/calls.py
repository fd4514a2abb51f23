"""A view's calls: HTTP requests for each page that changed, after it was stored and purged and before it is done."""

from collections.abc import Sequence

from services.propagation.executor.pages import Item, RenderFailed, Withheld
from services.propagation.executor.templates import BodyTemplate, request_encoders, title_of
from services.propagation.executor.url_requests import UrlTemplate, exchange_all, problem_of
from services.propagation.targets.target import Target
from services.propagation.targets.targets import Targets
from wellspring.propagation.v1 import work_pb2

VERSION_HEADER = "Wellspring-Version"
DEFAULT_METHOD = "POST"
DEFAULT_TIMEOUT_S = 10.0
MAX_ANSWER_BYTES = 1 << 20
_JSON = "application/json"
_UNBOUNDED = 1 << 30

Problem = RenderFailed | Withheld


class ViewCalls:
    """The calls of one view, made in their order: a page whose call failed is not told to the next one.

    Raises TargetInvalid or RequestInvalid for a view that cannot be served.
    """

    def __init__(self, view: work_pb2.View, targets: Targets) -> None:
        self._calls = [_Call(view, call, targets) for call in view.calls]

    @property
    def targets(self) -> list[Target]:
        """Whom they call."""
        return [call.target for call in self._calls]

    async def make(self, items: Sequence[Item], rendered_version: bytes) -> dict[int, Problem]:
        """By the items' places, why a call was not answered well. What is not among them has been called."""
        problems: dict[int, Problem] = {}
        for number, call in enumerate(self._calls):
            left = [at for at in range(len(items)) if at not in problems]
            found = await call.make([items[at] for at in left], rendered_version, number)
            problems |= {left[at]: problem for at, problem in found.items()}
        return problems

    async def close(self) -> None:
        """Gives the lanes back."""
        for call in self._calls:
            call.close()


class _Call:
    def __init__(self, view: work_pb2.View, call: work_pb2.Call, targets: Targets) -> None:
        headers = dict(call.headers)
        given = {name.lower(): value for name, value in headers.items()}
        looks_json = call.body.lstrip()[:1] in ("{", "[")
        as_json = "json" in given["content-type"].lower() if "content-type" in given else looks_json
        if call.body and "content-type" not in given:
            headers["Content-Type"] = _JSON if as_json else "text/plain; charset=utf-8"
        # The same for all pages of a slice: filled in before the URL's own fields.
        self._version = ""
        encoders = request_encoders(view.name) | {"version": lambda resources: [self._version] * len(resources)}
        self._template = UrlTemplate(targets, call.method or DEFAULT_METHOD, call.url, headers.items(), encoders)
        self.target = self._template.target
        self._lane = self.target.lane(view.max_concurrency or _UNBOUNDED)
        self._body = BodyTemplate(call.body, as_json=as_json) if call.body else None
        self._view = view.name
        self._timeout_s = call.timeout.ToNanoseconds() / 1e9 or DEFAULT_TIMEOUT_S

    async def make(self, items: Sequence[Item], rendered_version: bytes, number: int) -> dict[int, Problem]:
        requests = self._requests(items, rendered_version.hex())
        exchanges = await exchange_all(
            self._lane,
            requests,
            timeout_s=self._timeout_s,
            max_body_bytes=MAX_ANSWER_BYTES,
            idempotent=self._template.idempotent,
        )
        problems: dict[int, Problem] = {}
        for at, exchange in enumerate(exchanges):
            problem = problem_of(exchange, "CALL")
            if isinstance(problem, RenderFailed):
                detail = f"calls[{number}]: {problem.detail}"
                problem = RenderFailed(
                    problem.reason, detail, retryable=problem.retryable, retry_after_s=problem.retry_after_s
                )
            if problem is not None:
                problems[at] = problem
        return problems

    def close(self) -> None:
        self._lane.close()

    def _requests(self, items: Sequence[Item], version: str) -> list[bytes]:
        self._version = version
        more = f"{VERSION_HEADER}: {version}\r\n".encode()
        resources = [item.resource for item in items]
        bodies = None if self._body is None else [self._body_of(self._body, one, version) for one in resources]
        return self._template.requests(resources, more, bodies)

    def _body_of(self, body: BodyTemplate, resource: str, version: str) -> bytes:
        return body.fill({"resource": resource, "view": self._view, "title": title_of(resource), "version": version})
