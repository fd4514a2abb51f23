"""What a view may say, beyond the form of its fields."""

import re
from collections.abc import Iterable, Sequence
from string import Formatter

from google.protobuf.duration_pb2 import Duration
from yaml.nodes import MappingNode, Node, SequenceNode

from libs.config import tree
from libs.config.config import Mistake
from services.propagation.domain import names
from services.propagation.views.circles import circles
from wellspring.propagation.v1 import propagation_admin_pb2, work_pb2

_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_HTTP = re.compile(r"https?://[^\s/]+(/\S*)?")
_ADDRESS = re.compile(r"(\S+:\d{1,5}|unix:/\S+)")
_METHODS = ("GET", "POST", "PUT")
_CALL_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\x20-\x7e\t]*")
# The executor's client sets these, or has no use for what they ask.
_OWN_HEADERS = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "accept-encoding", "expect", "te"}
)
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
_URI = re.compile(r"((https?:)?//[A-Za-z0-9._:\[\]-]+)?/[!-~]*")
_WORD = re.compile(r"[!-~]{1,256}")
_BODY_WORD = re.compile(r"\{([A-Za-z_]\w*)\}")

RECORD_FIELDS = ("resource", "name")
PURGE_FIELDS = ("resource", "name", "path")
URL_FIELDS = ("resource", "view", "title")
CALL_FIELDS = (*URL_FIELDS, "version")

Path = tuple[str | int, ...]


class Checker:
    """Gathers the mistakes of one views file, each at the place where it stands."""

    def __init__(self, text: str, source: str, places: Sequence[str] = ()) -> None:
        self.mistakes: list[Mistake] = []
        self.absent: set[str] = set()
        """The paths of those mistakes that are about what the file does not have."""
        self._places = places
        self._root = tree.read(text, source)

    def check(self, message: propagation_admin_pb2.ListViewsResponse) -> None:
        """Checks all the views, each for itself and against the others."""
        if message.revision:
            self._wrong(("revision",), "is given by the engine", "leave it out")
        seen: dict[str, int] = {}
        outputs: dict[tuple[str, str, bytes], str] = {}
        for index, view in enumerate(message.views):
            at: Path = ("views", index)
            self._check_view(at, view)
            if view.name in seen:
                self._wrong((*at, "name"), f'"{view.name}" is the name of another view', "each view has its own name")
            seen[view.name] = index
            place = (view.store.namespace, _record(view), view.store.item_key)
            other = outputs.setdefault(place, view.name)
            if other != view.name and view.store.namespace:
                self._wrong((*at, "store"), f"is where {other} stores too", "each view stores into records of its own")

        for circle in circles({view.name: (view.source_namespace, view.store.namespace) for view in message.views}):
            last: Path = ("views", seen[circle[-1]], "store", "namespace")
            said = " → ".join([*circle, circle[0]])
            allowed = "views that read what others store form no circle; depend on outputs by declaring them"
            self._wrong(last, f"closes a circle of views that store into each other's source: {said}", allowed)

    def _check_view(self, at: Path, view: work_pb2.View) -> None:
        if not names.is_word(view.name):
            self._wrong((*at, "name"), f'"{view.name}" is no name of a view', names.WORD_RULE)
        if view.revision:
            self._wrong((*at, "revision"), "is given by the engine", "leave it out")
        self._check_prefixes(at, view.resource_prefixes)
        self._check_render(at, view.render)
        self._check_store(at, view)
        self._check_home(at, view)
        for index, url in enumerate(view.purge.urls):
            self._check_template((*at, "purge", "urls", index), url, PURGE_FIELDS)
        for index, tag in enumerate(view.purge.tags):
            self._check_template((*at, "purge", "tags", index), tag, PURGE_FIELDS)
        for index, call in enumerate(view.calls):
            self._check_call((*at, "calls", index), call)
        for index, publish in enumerate(view.publishes):
            self._check_publish((*at, "publishes", index), publish)
        self._check_retry(at, view.retry)
        self._check_range((*at, "max_concurrency"), view.max_concurrency, 1, 10_000)
        self._check_range((*at, "max_dependencies"), view.max_dependencies, 1, 1_000_000)
        self._check_seconds((*at, "settle_delay"), view.settle_delay, 0.0, 3_600.0)
        self._check_seconds((*at, "lease_time"), view.lease_time, 0.1, 3_600.0)

    def _check_prefixes(self, at: Path, prefixes: Iterable[str]) -> None:
        given = list(prefixes)
        if not given:
            self._wrong((*at, "resource_prefixes"), "names no resources", 'at least one prefix, such as "enwiki/page/"')
        for index, prefix in enumerate(given):
            here: Path = (*at, "resource_prefixes", index)
            problem = names.resource_problem(prefix)
            if problem is not None:
                self._wrong(here, f'"{prefix}" {problem}', "")
            elif prefix.startswith(names.OUTPUT_PREFIX) or names.OUTPUT_PREFIX.startswith(prefix):
                allowed = "a prefix of resources that change from outside; outputs are inputs: declare a dependency"
                self._wrong(here, f'"{prefix}" covers the outputs of views', allowed)
            elif prefix in given[:index]:
                self._wrong(here, f'"{prefix}" is given twice', "each prefix once")

    def _check_render(self, at: Path, render: work_pb2.Render) -> None:
        kind = render.WhichOneof("kind")
        here: Path = (*at, "render")
        if kind is None:
            self._wrong(here, "does not say how the view is rendered", "one of entry_point, http, grpc")
        elif kind == "take":
            self._wrong((*here, kind), "is given by the engine", "entry_point, http or grpc, and the view's home")
        elif kind == "entry_point" and not _FUNCTION.fullmatch(render.entry_point.function):
            allowed = '"package.module:function"'
            self._wrong((*here, kind, "function"), f'"{render.entry_point.function}" names no function', allowed)
        elif kind == "http":
            self._check_http((*here, kind), render.http)
        elif kind == "grpc" and not _ADDRESS.fullmatch(render.grpc.address):
            self._wrong((*here, kind, "address"), f'"{render.grpc.address}" is no address', "host:port or unix:/path")
        self._check_seconds((*here, "timeout"), render.timeout, 0.001, 3_600.0)
        self._check_range((*here, "max_output_bytes"), render.max_output_bytes, 1, 1 << 30)

    def _check_http(self, at: Path, http: work_pb2.Render.Http) -> None:
        if not _HTTP.fullmatch(http.url):
            self._wrong((*at, "url"), f'"{http.url}" is no address', "http://host/path or https://host/path")
        self._check_request(at, http, URL_FIELDS, _METHODS)

    def _check_call(self, at: Path, call: work_pb2.Call) -> None:
        if not _HTTP.fullmatch(call.url):
            self._wrong((*at, "url"), f'"{call.url}" is no address', "http://host/path or https://host/path")
        self._check_request(at, call, CALL_FIELDS, _CALL_METHODS)
        if call.body and call.method in ("GET", "DELETE"):
            self._wrong((*at, "body"), f"stands beside the method {call.method}", "POST, PUT or PATCH carry a body")
        for word in _BODY_WORD.findall(call.body):
            if word not in CALL_FIELDS:
                listed = ", ".join(f"{{{field}}}" for field in CALL_FIELDS)
                self._wrong((*at, "body"), f"uses {{{word}}}", f"{listed} are replaced, other braces stay")
        self._check_seconds((*at, "timeout"), call.timeout, 0.001, 3_600.0)

    def _check_publish(self, at: Path, publish: work_pb2.Publish) -> None:
        if not _TOPIC.fullmatch(publish.topic) or publish.topic in (".", ".."):
            self._wrong((*at, "topic"), f'"{publish.topic}" is no topic', "1 to 249 of letters, digits, . _ -")
        if not publish.uris and not publish.xkeys:
            self._wrong(at, "publishes nothing", "uris, xkeys, or both")
        for index, uri in enumerate(publish.uris):
            here: Path = (*at, "uris", index)
            self._check_template(here, uri, PURGE_FIELDS)
            if not _URI.fullmatch(uri):
                allowed = "https://host/path, //host/path or /path, percent-encoded, without a field in its host"
                self._wrong(here, f'"{uri}" is no address', allowed)
        for index, xkey in enumerate(publish.xkeys):
            self._check_template((*at, "xkeys", index), xkey, PURGE_FIELDS)
            if not _WORD.fullmatch(xkey):
                self._wrong((*at, "xkeys", index), f'"{xkey}" is no tag', "printable ASCII without blanks")
        for what, given in (("tags", publish.tags), ("uris", publish.uris), ("xkeys", publish.xkeys)):
            if len(given) > 100:
                self._wrong((*at, what), f"are {len(given)}", "at most 100 are allowed")
            elif len(set(given)) < len(given) or "" in given:
                self._wrong((*at, what), "are empty or given twice", "each text once")

    def _check_request(
        self, at: Path, request: work_pb2.Render.Http | work_pb2.Call, allowed: tuple[str, ...], methods: Sequence[str]
    ) -> None:
        """What requests to renderers and to hooks have in common: URL, method, headers."""
        self._check_template((*at, "url"), request.url, allowed)
        authority = request.url.partition("://")[2].partition("/")[0]
        if "{" in authority or "@" in authority:
            self._wrong((*at, "url"), f'"{request.url}" has a field or a user in its host', "a host as it is")
        if request.method and request.method not in methods:
            self._wrong((*at, "method"), f'is "{request.method}"', f"one of {', '.join(methods)}")
        for name, value in request.headers.items():
            if not _HEADER_NAME.fullmatch(name) or name.lower() in _OWN_HEADERS:
                allowed_names = "a name of letters, digits and -; framing, Host and Accept-Encoding are the client's"
                self._wrong((*at, "headers"), f'"{name}" cannot be given', allowed_names)
            elif not _HEADER_VALUE.fullmatch(value):
                self._wrong((*at, "headers", name), "has characters that no header may hold", "printable ASCII")

    def _check_store(self, at: Path, view: work_pb2.View) -> None:
        here: Path = (*at, "store")
        if view.source_prefix and not view.source_namespace:
            self._wrong((*at, "source_prefix"), "stands without source_namespace", "both or none")
        if not (view.store.namespace or view.store.record or view.store.item_key):
            return  # a view that only calls
        if not view.store.namespace:
            self._wrong((*here, "namespace"), "is missing", "the namespace that the output is stored in")
        elif view.store.namespace == view.source_namespace:
            allowed = "another namespace than source_namespace: the output would change the input that it is made of"
            self._wrong((*here, "namespace"), f'"{view.store.namespace}" is the view\'s own source', allowed)
        if view.store.record:
            used = self._check_template((*here, "record"), view.store.record, RECORD_FIELDS)
            if used is not None and not used:
                allowed = "{resource} or {name} in it, so that each resource has its own record"
                self._wrong((*here, "record"), "is the same for all resources", allowed)

    def _check_home(self, at: Path, view: work_pb2.View) -> None:
        here: Path = (*at, "home")
        if view.home and not view.store.namespace:
            self._wrong(here, f'"{view.home}" has no results to take', "a home for views that store")
        elif view.home and self._places and view.home not in self._places:
            allowed = f"the engine's own datacentre, or one of its homes: {', '.join(filter(None, self._places))}"
            self._wrong(here, f'"{view.home}" is no data centre that this engine knows', allowed.removesuffix(": "))

    def _check_retry(self, at: Path, retry: work_pb2.RetryPolicy) -> None:
        here: Path = (*at, "retry")
        self._check_range((*here, "max_attempts"), retry.max_attempts, 1, 100)
        self._check_seconds((*here, "initial_backoff"), retry.initial_backoff, 0.001, 3_600.0)
        self._check_seconds((*here, "max_backoff"), retry.max_backoff, 0.001, 86_400.0)
        longest, first = retry.max_backoff.ToNanoseconds(), retry.initial_backoff.ToNanoseconds()
        if longest and first > longest:
            self._wrong((*here, "initial_backoff"), "is longer than max_backoff", "at most max_backoff")

    def _check_template(self, at: Path, text: str, allowed: tuple[str, ...]) -> set[str] | None:
        """The fields that the template uses; None when it is none."""
        listed = ", ".join(f"{{{field}}}" for field in allowed)
        try:
            parts = [(field, spec, how) for _, field, spec, how in Formatter().parse(text) if field is not None]
        except ValueError:
            self._wrong(at, f'"{text}" has a brace that is not closed', f"{listed}; a brace itself is doubled")
            return None
        for field, spec, how in parts:
            if field not in allowed or spec or how:
                self._wrong(at, f'"{text}" uses {{{field}}}', f"{listed} are allowed")
        return {field for field, _, _ in parts}

    def _check_range(self, at: Path, value: int, low: int, high: int) -> None:
        if value and not low <= value <= high:
            self._wrong(at, f"is {value}", f"{low:,} to {high:,} are allowed")

    def _check_seconds(self, at: Path, value: Duration, low: float, high: float) -> None:
        value_s = value.ToNanoseconds() / 1e9
        if value_s and not low <= value_s <= high:
            self._wrong(at, f"is {value_s:g} s", f"{low:g} s to {high:g} s are allowed")

    def _wrong(self, path: Path, what: str, allowed: str) -> None:
        node, there = self._node(path)
        if not there:
            self.absent.add(_text(path))
        self.mistakes.append(tree.mistake(node, _text(path), what, allowed))

    def _node(self, path: Path) -> tuple[Node, bool]:
        """The node at the path and True, or the nearest above it that is there."""
        node = self._root
        for part in path:
            inner: Node | None = None
            if isinstance(part, int):
                if isinstance(node, SequenceNode) and part < len(node.value):
                    inner = node.value[part]
                elif not isinstance(node, SequenceNode) and part == 0:
                    inner = node  # a list of one may be written without its dash
            elif isinstance(node, MappingNode):
                inner = tree.get(node, part)
            if inner is None:
                return node, False
            node = inner
        return node, True


def _record(view: work_pb2.View) -> str:
    """The template of the view's records, written in one way where two mean the same."""
    record = view.store.record or "{resource}"
    return record if view.source_prefix else record.replace("{name}", "{resource}")


def _text(path: Path) -> str:
    """views[0].store.record"""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
