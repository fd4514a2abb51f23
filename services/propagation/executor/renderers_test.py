"""Renderers and hooks over the network, real sockets, good and bad: each page has its own outcome."""

import asyncio
import contextlib
import json

import grpc
import pytest
from google.rpc import code_pb2  # type: ignore[import-untyped]

from services.propagation.executor.calls import ViewCalls
from services.propagation.executor.entry_points import EntryPointRenderer
from services.propagation.executor.pages import Item, Page, RenderFailed, SawOlder, Withheld, check_page
from services.propagation.executor.renderers import RendererUnusable, Slice
from services.propagation.executor.runtimes import make_renderer
from services.propagation.targets.settings import TargetInvalid, TargetSettings
from services.propagation.targets.targets import Targets
from wellspring.propagation.v1 import propagation_pb2, renderer_pb2, work_pb2

VERSION = bytes(range(16))
PATIENT_MS = 60_000
"""For renders that are answered, however busy the machine is."""


def items(*names, attempts=0):
    return [Item(n, f"wiki/page/{name}", bytes(16), attempts) for n, name in enumerate(names)]


class Http:
    """An HTTP server: `pages` are (status, headers, body), or a callable over the writer, by the request's path."""

    def __init__(self):
        self.pages = {}
        self.requests = []

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self._server.close()

    async def _serve(self, reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = next((int(x.split(":")[1]) for x in head.split("\r\n") if x.startswith("Content-Length")), 0)
                self.requests.append((head, (await reader.readexactly(length)).decode()))
                page = self.pages.get(head.split(" ")[1], (200, {}, b"page"))
                if callable(page):
                    await page(writer)
                    continue
                status, headers, body = page
                lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
                writer.write(f"HTTP/1.1 {status} X\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        writer.close()


def http_view(url, **render):
    view = work_pb2.View(name="html", max_dependencies=100)
    view.render.http.url = url
    view.render.timeout.FromMilliseconds(render.pop("timeout_ms", PATIENT_MS))
    view.render.max_output_bytes = 1000
    for name, value in render.items():
        setattr(view.render.http, name, value)
    return view


def render(view, given, *, sources=None, inputs=(), targets=None):
    async def main():
        used = targets or Targets()
        renderer = make_renderer(view, used)
        outcomes = await renderer.render(given, Slice(sources, inputs))
        await renderer.close()
        await used.close()
        return outcomes

    return main()


def told(outcome):
    if isinstance(outcome, RenderFailed):
        return (outcome.reason, outcome.retryable)
    return outcome.body if isinstance(outcome, Page) else type(outcome)


async def flood(writer):
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n")
    with contextlib.suppress(ConnectionError):
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()


async def never(writer):
    await asyncio.sleep(30)


async def garbage(writer):
    writer.write(b"\x00\x01\x02 what\r\n\r\n")


def test_http_pages_come_with_what_their_headers_say():
    async def main():
        async with Http() as server:
            depends = "wiki%2Ftemplate%2FT wiki%2Fpage%2FA%20b;existence"
            headers = {"Content-Type": "text/html", "Wellspring-Dependencies": depends, "Surrogate-Key": "a b"}
            server.pages["/r/wiki%2Fpage%2FA?t=A&v=html"] = (200, headers, b"<p>")
            server.pages["/r/wiki%2Fpage%2FGone?t=Gone&v=html"] = (410, {}, b"gone")
            server.pages["/r/wiki%2Fpage%2FNone?t=None&v=html"] = (200, {"Wellspring-Dependencies": ""}, b"x")
            view = http_view(f"{server.url}/r/{{resource}}?t={{title}}&v={{view}}")
            view.render.http.headers["X-Site"] = "wiki"
            a, b, gone, none = await render(view, items("A", "Ü b", "Gone", "None"))
            pairs = (("wiki/template/T", "content"), ("wiki/page/A b", "existence"))
            assert a == Page(b"<p>", "text/html", pairs, ("a", "b"))
            # No header: what is known of the page's dependencies stays; an empty one: it has none.
            assert b == Page(b"page", "application/octet-stream", None, ())
            assert none.dependencies == ()
            assert gone.missing and gone.body == b""
            assert any("GET /r/wiki%2Fpage%2F%C3%9C%20b?t=%C3%9C%20b" in head for head, _ in server.requests)
            assert all("X-Site: wiki\r\n" in head for head, _ in server.requests)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ((500, {}, b""), ("RENDERER_HTTP_500", True)),
        ((503, {"Retry-After": "7"}, b""), ("RENDERER_HTTP_503", True)),
        ((429, {}, b""), ("RENDERER_HTTP_429", True)),
        ((403, {}, b""), ("RENDERER_HTTP_403", False)),
        ((302, {"Location": "/x"}, b""), ("RENDERER_HTTP_302", False)),
        ((204, {}, b""), ("RENDERER_HTTP_204", False)),
        ((200, {"Content-Encoding": "gzip"}, b"x"), ("RENDERER_GARBAGE", False)),
        ((200, {"Wellspring-Dependencies": "%FF"}, b"x"), ("RENDERER_GARBAGE", False)),
        ((200, {}, b"x" * 1001), ("OUTPUT_TOO_LARGE", False)),
        (flood, ("OUTPUT_TOO_LARGE", False)),
        (garbage, ("RENDERER_MALFORMED", True)),
        (never, ("RENDER_TIMEOUT", True)),
    ],
)
def test_one_bad_answer_over_http_leaves_the_others_alone(page, expected):
    async def main():
        async with Http() as server:
            server.pages["/bad"] = page
            view = http_view(f"{server.url}/{{title}}", timeout_ms=2000 if page is never else PATIENT_MS)
            a, bad, b = await render(view, items("A", "bad", "B"))
            assert (told(a), told(bad), told(b)) == (b"page", expected, b"page"), bad
            if expected[0] == "RENDERER_HTTP_503":
                assert bad.retry_after_s == 7

    asyncio.run(main())


def test_nobody_listening_is_a_failure_of_each_and_then_left_alone():
    async def main():
        async with Http() as server:
            url = server.url
        view = http_view(f"{url}/{{title}}")
        outcomes = await render(view, items(*map(str, range(60))))
        kinds = {told(one) for one in outcomes}
        assert kinds == {("RENDERER_UNREACHABLE", True), Withheld}

    asyncio.run(main())


def test_renderers_that_cannot_be_made_say_why():
    async def main():
        for view, error in [
            (http_view("http://{title}.example/"), TargetInvalid),
            (http_view("gopher://x/"), TargetInvalid),
            (work_pb2.View(name="x"), RendererUnusable),
        ]:
            with pytest.raises(error):
                make_renderer(view, Targets())
        view = work_pb2.View()
        view.render.entry_point.function = "no.such:thing"
        with pytest.raises(RendererUnusable, match="no.such:thing"):
            EntryPointRenderer(view)

    asyncio.run(main())


class Service:
    """A Renderer over gRPC: `answer(request)` gives the response's bytes, or raises a status."""

    def __init__(self, answer):
        self.answer = answer
        self.requests = []

    async def __aenter__(self):
        self.server = grpc.aio.server(options=[("grpc.max_send_message_length", -1)])
        handler = grpc.unary_unary_rpc_method_handler(
            self._render, request_deserializer=renderer_pb2.RenderRequest.FromString, response_serializer=bytes
        )
        name = "wellspring.propagation.v1.Renderer"
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, {"Render": handler}),))
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        await self.server.start()
        return self

    async def __aexit__(self, *_):
        await self.server.stop(0)

    async def _render(self, request, context):
        self.requests.append(request)
        self.metadata = dict(context.invocation_metadata())
        answer = self.answer(request)
        if isinstance(answer, grpc.StatusCode):
            await context.abort(answer, "secret text")
        if answer is None:
            await asyncio.sleep(30)
        return answer if isinstance(answer, bytes) else answer.SerializeToString()

    def view(self, timeout_ms=PATIENT_MS):
        view = work_pb2.View(name="html", max_dependencies=100)
        view.render.grpc.address = f"127.0.0.1:{self.port}"
        view.render.timeout.FromMilliseconds(timeout_ms)
        return view


def good(resource):
    return renderer_pb2.Rendered(body=resource.encode(), content_type="text/plain")


def answers(**special):
    """Each page its name; `special` by title: a Rendered, or what the whole call answers."""

    def answer(request):
        response = renderer_pb2.RenderResponse()
        for resource in request.resources:
            one = special.get(resource.rpartition("/")[2], good(resource))
            if not isinstance(one, renderer_pb2.Rendered):
                return one
            response.results.append(one)
        return response

    return answer


def test_grpc_renders_a_slice_in_one_call_with_an_outcome_for_each():
    failed = renderer_pb2.Rendered()
    failed.status.code, failed.status.message = code_pb2.UNAVAILABLE, "later"
    invalid = renderer_pb2.Rendered()
    invalid.status.code = code_pb2.INVALID_ARGUMENT
    depends = renderer_pb2.Rendered(
        body=b"x",
        dependencies=[
            propagation_pb2.Dependency(resource="wiki/T"),
            propagation_pb2.Dependency(resource="a", aspect="b"),
        ],
        surrogate_keys=["k"],
    )

    async def main():
        special = {
            "later": failed,
            "never": invalid,
            "gone": renderer_pb2.Rendered(missing=True, body=b"ignored"),
            "old": renderer_pb2.Rendered(saw_older=True),
            "deps": depends,
        }
        async with Service(answers(**special)) as service:
            wanted = work_pb2.Batch.InputVersion(resource="wiki/T", aspect="content", version=VERSION)
            names = ("A", "later", "never", "gone", "old", "deps")
            secret = {
                f"127.0.0.1:{service.port}": TargetSettings(f"127.0.0.1:{service.port}", authorization="Bearer x")
            }
            found = await render(service.view(), items(*names), inputs=[wanted], targets=Targets(secret))
            assert len(service.requests) == 1 and list(service.requests[0].inputs) == [
                renderer_pb2.Input(resource="wiki/T", aspect="content", version=VERSION)
            ]
            assert service.metadata["authorization"] == "Bearer x"
            a, later, never_, gone, old, deps = found
            assert a == Page(b"wiki/page/A", "text/plain", (), ())
            assert told(later) == ("RENDERER_UNAVAILABLE", True) and later.detail == "later"
            assert told(never_) == ("RENDERER_INVALID_ARGUMENT", False)
            assert gone.missing and not gone.body and isinstance(old, SawOlder)
            assert deps.dependencies == (("wiki/T", "content"), ("a", "b")) and deps.tags == ("k",)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (renderer_pb2.RenderResponse(), ("RENDERER_GARBAGE", False)),
        (b"\xff\xff\xff", ("RENDERER_GARBAGE", False)),
        (bytes((64 << 20) + 1), ("OUTPUT_TOO_LARGE", False)),
        (grpc.StatusCode.INTERNAL, ("RENDERER_HTTP_500", True)),
        (grpc.StatusCode.INVALID_ARGUMENT, ("RENDERER_HTTP_400", False)),
    ],
    ids=["nothing", "garbage", "enormous", "internal", "invalid"],
)
def test_a_page_on_which_the_service_breaks_does_not_take_its_slice_with_it(answer, expected):
    async def main():
        async with Service(answers(bad=answer)) as service:
            found = await render(service.view(), items("A", "B", "bad", "C", "D"))
            pages = [f"wiki/page/{name}".encode() for name in "ABCD"]
            assert [told(one) for one in found] == [*pages[:2], expected, *pages[2:]]
            assert "secret" not in found[2].detail

    asyncio.run(main())


def test_a_call_without_an_answer_is_an_attempt_of_all_and_what_failed_before_goes_alone():
    async def main():
        async with Service(answers(bad=None)) as service:
            view = service.view(timeout_ms=2000)
            first = await render(view, items("A", "bad", "B"))
            assert {told(one) for one in first} == {("RENDER_TIMEOUT", True)}
            again = await render(view, items("A", "bad", "B", attempts=1))
            assert [told(one) for one in again] == [b"wiki/page/A", ("RENDER_TIMEOUT", True), b"wiki/page/B"]
            port = service.port
        view.render.grpc.address = f"127.0.0.1:{port}"
        gone = await render(view, items("A"))
        assert told(gone[0]) in {("RENDERER_UNREACHABLE", True), ("RENDER_TIMEOUT", True)}

    asyncio.run(main())


def test_a_page_is_checked_before_it_is_taken():
    view = work_pb2.View(name="html", max_dependencies=2)
    (item,) = items("A")

    def reason(page):
        found = check_page(page, item, view, 10)
        return found.reason if found else None

    assert reason(Page(b"x", "t", None, ())) is None
    assert reason(Page(b"x", "t" * 129, None, ())) == "RENDERER_GARBAGE"
    assert reason(Page(b"x", "text/html\r\nX: y", None, ())) == "RENDERER_GARBAGE"
    assert reason(Page(b"x", "\ud800", None, ())) == "RENDERER_GARBAGE"
    assert reason(Page(b"x", "t", None, ("a b",))) == "TAG_INVALID"
    assert reason(Page(b"x", "t", None, ("ü",))) == "TAG_INVALID"
    assert reason(Page(b"x", "t", (("a", "content"),) * 3, ())) == "TOO_MANY_DEPENDENCIES"
    assert reason(Page(b"x" * 11, "t", (), ())) == "OUTPUT_TOO_LARGE"


def called(view, given, targets=None):
    async def main():
        used = targets or Targets()
        calls = ViewCalls(view, used)
        problems = await calls.make(given, VERSION)
        await calls.close()
        await used.close()
        return problems

    return main()


def test_calls_carry_the_version_and_json_is_escaped():
    async def main():
        async with Http() as server:
            view = work_pb2.View(name="html")
            url = f"{server.url}/hook/{{title}}?v={{version}}"
            view.calls.add(url=url, body='{"page": "{resource}", "n": {"version": "{version}"}}')
            view.calls.add(url=f"{server.url}/plain", method="PUT", body="{title}", headers={"Content-Type": "text/x"})
            view.calls.add(url=f"{server.url}/empty")
            assert await called(view, items('A "quoted" \\ page')) == {}
            (post, body), (put, plain), (empty, nothing) = server.requests
            assert post.startswith(f"POST /hook/A%20%22quoted%22%20%5C%20page?v={VERSION.hex()} HTTP/1.1\r\n")
            assert f"Wellspring-Version: {VERSION.hex()}\r\n" in post and "application/json" in post
            assert json.loads(body) == {"page": 'wiki/page/A "quoted" \\ page', "n": {"version": VERSION.hex()}}
            assert put.startswith("PUT /plain") and plain == 'A "quoted" \\ page' and "text/x" in put
            assert empty.startswith("POST /empty") and "Content-Length: 0" in empty and nothing == ""

    asyncio.run(main())


def test_a_call_that_fails_is_its_own_page_s_trouble_and_the_next_call_is_not_made_for_it():
    async def main():
        async with Http() as server:
            server.pages["/first/bad"] = (500, {}, b"")
            server.pages["/first/wrong"] = (404, {}, b"")
            view = work_pb2.View(name="html")
            view.calls.add(url=f"{server.url}/first/{{title}}")
            view.calls.add(url=f"{server.url}/second/{{title}}")
            problems = await called(view, items("A", "bad", "wrong", "B"))
            assert {at: told(one) for at, one in problems.items()} == {
                1: ("CALL_HTTP_500", True),
                2: ("CALL_HTTP_404", False),
            }
            assert "calls[0]" in problems[1].detail
            seconds = {head.split(" ")[1] for head, _ in server.requests if "/second/" in head}
            assert seconds == {"/second/A", "/second/B"}

    asyncio.run(main())
