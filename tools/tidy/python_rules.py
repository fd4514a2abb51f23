"""House rules on the syntax of a Python module, whichever folder it lies in."""

import ast
from collections.abc import Iterator

from tools.tidy.complaint import Complaint, Source

BROAD = ("Exception", "BaseException")
SKIPS = ("pytest.skip", "pytest.xfail", "pytest.importorskip", "unittest.skip")
MARKS = ("pytest.mark.skip", "pytest.mark.skipif", "pytest.mark.xfail", "unittest.skipIf", "unittest.skipUnless")
UNBOUNDED = ("asyncio.Queue", "asyncio.LifoQueue", "asyncio.PriorityQueue", "queue.Queue", "queue.LifoQueue")


def dotted(node: ast.expr | None) -> str:
    """`a.b.c` for a chain of names, else nothing."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (base := dotted(node.value)):
        return f"{base}.{node.attr}"
    return ""


def calls(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    """Every call whose callee is a chain of names, with that chain."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (name := dotted(node.func)):
            yield name, node


def imports(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Every imported module, and the names imported out of it (`a.b` for `from a import b`), with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node.lineno


def has_text(node: ast.expr | None) -> bool:
    """Whether an argument is there and is not an empty string."""
    return node is not None and not (isinstance(node, ast.Constant) and not node.value)


def docstring(source: Source, tree: ast.Module) -> Iterator[Complaint]:
    """A public module's docstring says which idea is its own."""
    public = not source.name.startswith("_") or source.name == "__init__.py"
    if public and tree.body and not source.is_test and not ast.get_docstring(tree):
        yield Complaint(source.path, 1, "has no module docstring", "say in one sentence what the module is for")


def swallowed(source: Source, tree: ast.Module) -> Iterator[Complaint]:
    """No error is caught unnamed, and none is thrown away unseen."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.ExceptHandler):
            continue
        if node.type is None:
            yield Complaint(source.path, node.lineno, "catches everything unnamed", "name the errors that can happen")
            continue
        types = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        idle = all(
            isinstance(s, ast.Pass | ast.Continue)
            or (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))
            for s in node.body
        )  # fmt: skip
        if idle and any(dotted(t) in BROAD for t in types):
            what = "catches every error and throws it away"
            yield Complaint(source.path, node.lineno, what, "name the errors that can happen, or log and count them")
    for name, call in calls(tree):
        if name in ("contextlib.suppress", "suppress") and any(dotted(a) in BROAD for a in call.args):
            yield Complaint(source.path, call.lineno, "suppresses every error", "name the errors that can happen")


def skipped(source: Source, tree: ast.Module) -> Iterator[Complaint]:
    """A test that does not run says why."""
    for name, call in calls(tree):
        reason = next((k.value for k in call.keywords if k.arg in ("reason", "msg")), None)
        if name in SKIPS and not has_text(reason if reason is not None else (call.args[0] if call.args else None)):
            yield Complaint(source.path, call.lineno, f"{name} gives no reason", "say what is missing")
        if name in MARKS and not has_text(reason):
            yield Complaint(source.path, call.lineno, f"{name} gives no reason", "add reason=")
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            for decorator in node.decorator_list:
                if dotted(decorator) in MARKS:
                    yield Complaint(source.path, node.lineno, f"{dotted(decorator)} gives no reason", "add reason=")


def sleeping(source: Source, tree: ast.Module) -> Iterator[Complaint]:
    """Product code never sleeps by the wall clock: time is passed in (libs/clock), events are waited for."""
    if source.is_test or not source.under("services", "libs") or source.under("libs/*/testing"):
        return
    named = {name for name, _ in imports(tree)}
    for name, call in calls(tree):
        if name == "time.sleep" or (name == "sleep" and "time.sleep" in named):
            yield Complaint(
                source.path, call.lineno, "calls time.sleep", "wait for the event, or use the clock passed in"
            )


def unowned(source: Source, tree: ast.Module) -> Iterator[Complaint]:
    """A task has an owner that waits for it; a queue has a bound."""
    if source.is_test or not source.under("services", "libs"):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            name = dotted(node.value.func)
            if name in ("asyncio.create_task", "asyncio.ensure_future"):
                what = f"{name} makes a task that nobody owns"
                yield Complaint(source.path, node.lineno, what, "make it in an asyncio.TaskGroup")
    for name, call in calls(tree):
        if name in UNBOUNDED and not call.args and not call.keywords:
            yield Complaint(source.path, call.lineno, f"{name} has no bound", "give it a maxsize")


RULES = [docstring, swallowed, skipped, sleeping, unowned]
