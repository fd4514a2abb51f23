"""House rules on who may import whom, and on what the session service must never write down."""

import ast
import re
from collections.abc import Iterator

from tools.tidy.complaint import Complaint, Source
from tools.tidy.python_rules import calls, dotted, imports

# What reaches outside the process, or brings the wire in.
WIRE = ("grpc", "google.protobuf", "google.rpc", "wellspring", "wellspring_client", "libs.rpc", "libs.client")
OUTSIDE = (
    "aiohttp", "cassandra", "confluent_kafka", "ftplib", "http", "httptools", "io", "libs.embedded", "logging", "mmap",
    "multiprocessing", "os", "pathlib", "prometheus_client", "redis", "requests", "rocksdict", "select", "shutil",
    "socket", "sqlite3", "ssl", "subprocess", "tempfile", "threading", "urllib.request", "urllib3", "uvloop", "yaml",
)  # fmt: skip
# Clock and randomness are passed in: what reads the machine's own.
AMBIENT = (
    "time.time", "time.time_ns", "time.monotonic", "time.monotonic_ns", "time.perf_counter", "time.sleep",
    "datetime.now", "datetime.utcnow", "datetime.datetime.now", "datetime.datetime.utcnow", "date.today",
    "uuid.uuid1", "uuid.uuid4", "random.random", "random.randint", "random.randrange", "random.choice",
    "random.shuffle", "random.sample", "random.uniform", "random.seed",
)  # fmt: skip
GENERATED = re.compile(r"wellspring\.[a-z_]+\.v\d+")
MESSAGES = ("request", "response", "req", "resp", "reply", "message")
PRINTERS = ("print", "str", "repr", "format", "text_format.MessageToString", "MessageToJson", "MessageToDict")
PRINTING_MODULES = ("google.protobuf.text_format", "google.protobuf.json_format")


def below(module: str, roots: tuple[str, ...]) -> bool:
    return any(module == root or module.startswith(root + ".") for root in roots)


def services(source: Source, tree: ast.Module) -> Iterator[Complaint]:
    """A service never imports another service; a library imports none."""
    own = source.path.split("/")[1] if source.under("services/*") else ""
    if not own and not source.under("libs"):
        return
    for module, line in imports(tree):
        parts = module.split(".")
        if parts[0] == "services" and len(parts) > 1 and parts[1] != own:
            what = f"imports {module}"
            remedy = "call that service through libs/client" if own else "a library knows no service: pass it in"
            yield Complaint(source.path, line, what, remedy)


def domain(source: Source, tree: ast.Module) -> Iterator[Complaint]:
    """The domain does no I/O, knows no protobuf, and reads neither clock nor randomness of the machine."""
    if source.is_test or not source.under("services/*/domain"):
        return
    for module, line in imports(tree):
        if below(module, WIRE):
            yield Complaint(source.path, line, f"the domain imports {module}", "convert in the servicer")
        elif below(module, OUTSIDE):
            yield Complaint(source.path, line, f"the domain imports {module}", "pass in what it is needed for")
        elif below(module, ("secrets",)):
            yield Complaint(source.path, line, f"the domain imports {module}", "pass randomness in")
        elif module in AMBIENT:
            yield Complaint(source.path, line, f"the domain imports {module}", "pass the clock or the generator in")
    for name, call in calls(tree):
        if name in AMBIENT:
            yield Complaint(source.path, call.lineno, f"the domain calls {name}", "pass the clock or the generator in")


def generated(source: Source, tree: ast.Module) -> Iterator[Complaint]:
    """Messages end at the servicer: stores and conformance suites speak in the domain's objects."""
    if source.is_test or not source.under("services/*/store", "services/*/conformance"):
        return
    for module, line in imports(tree):
        if GENERATED.match(module):
            yield Complaint(source.path, line, f"imports generated code ({module})", "take the domain's objects")


def secrets(source: Source, tree: ast.Module) -> Iterator[Complaint]:
    """The session service writes no message out whole: messages hold what nobody may read."""
    if source.is_test or not source.under("services/session"):
        return
    remedy = "log the fields that may be seen, one by one"
    for module, line in imports(tree):
        if below(module, PRINTING_MODULES):
            yield Complaint(source.path, line, f"imports {module}, which writes messages out", remedy)
    for name, call in calls(tree):
        is_log = name.split(".")[0] in ("log", "logger", "logging", "_log", "_logger") or ".log." in f".{name}."
        if name == "print":
            yield Complaint(source.path, call.lineno, "prints", "use the logger of libs/telemetry")
        elif name in PRINTERS or is_log:
            for value in [*call.args, *(k.value for k in call.keywords)]:
                if dotted(value).split(".")[-1] in MESSAGES:
                    yield Complaint(source.path, call.lineno, f"{name} writes {dotted(value)} out whole", remedy)
    for node in ast.walk(tree):
        if isinstance(node, ast.FormattedValue) and dotted(node.value).split(".")[-1] in MESSAGES:
            yield Complaint(source.path, node.lineno, f"a string holds {dotted(node.value)} whole", remedy)


RULES = [services, domain, generated, secrets]
