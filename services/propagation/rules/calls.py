"""The `exec` of a rule: a request or several, one after the other."""

import re
from collections.abc import Mapping

from yaml.nodes import MappingNode, Node, ScalarNode

from services.propagation.rules.carrying import read_cloudevent
from services.propagation.rules.changes import URI, Announce
from services.propagation.rules.outlines import outline
from services.propagation.rules.reading import Reader
from services.propagation.rules.requests import METHODS, Action, Call, Publish
from services.propagation.rules.templates import Template, compile_text, compile_tree

MAX_ACTIONS = 32
DEFAULT_TIMEOUT_S = 30.0
MAX_TIMEOUT_S = 3_600.0
_KEYS = ("method", "uri", "headers", "query", "body", "timeout", "cloudevent")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OURS = ("x-triggered-by", "host", "content-length", "transfer-encoding", "connection")
_BEGIN = re.compile(r"(https?|\{\{[^{}]+\}\})://")
_PUBLISH = "/sys/queue/events"
_ELSEWHERE: Mapping[str, str] = {
    "/sys/purge": "a view's `purge` says what is purged when its output has changed",
    "/sys/links": "a view's renderer declares what a page depends on, and the engine follows that by itself",
    "/sys/dep_updates": "a view's renderer declares what a page depends on, and the engine follows that by itself",
    "/sys/ores": "an http:// or https:// address of that service",
    "/sys/queue": f"{_PUBLISH} publishes events, {URI} makes changes",
}


def read_actions(reader: Reader, node: Node, path: str, *, timeout_s: float, publishes: bool) -> tuple[Action, ...]:
    """The requests in their order, each with `timeout_s` if it names none; mistakes go to the reader."""
    members = reader.members(node)
    if not 1 <= len(members) <= MAX_ACTIONS:
        reader.wrong(node, path, f"has {len(members)} requests", f"1 to {MAX_ACTIONS} are allowed")
    found = [_action(reader, one, f"{path}[{at}]", timeout_s, publishes=publishes) for at, one in enumerate(members)]
    return tuple(one for one in found if one is not None)


def _action(reader: Reader, node: Node, path: str, timeout_s: float, *, publishes: bool) -> Action | None:
    if not isinstance(node, MappingNode):
        reader.wrong(node, path, "is no request", f"a mapping with the keys {', '.join(_KEYS)}")
        return None
    given = reader.entries(node, path, _KEYS)
    if "uri" not in given:
        reader.wrong(node, path, "has no uri", "the address of the request")
        return None
    uri = reader.text(given["uri"], f"{path}.uri")
    if uri is None:
        return None
    if uri.rstrip("/") == _PUBLISH:
        return _publish(reader, given, node, path, publishes=publishes)
    if uri.rstrip("/") == URI:
        return _announce(reader, given, node, path)
    if not _BEGIN.match(uri):
        _refuse(reader, given["uri"], f"{path}.uri", uri)
        return None
    return _call(reader, given, path, timeout_s)


def _refuse(reader: Reader, node: Node, path: str, uri: str) -> None:
    instead = next((use for prefix, use in _ELSEWHERE.items() if uri.startswith(prefix)), None)
    if instead is not None:
        reader.wrong(node, path, f'"{uri}" is not kept here', instead)
    else:
        reader.wrong(node, path, f'"{uri}" is no address', "http://host/path or https://host/path")


def _publish(reader: Reader, given: Mapping[str, Node], node: Node, path: str, *, publishes: bool) -> Publish | None:
    if not publishes:
        allowed = "publish a change by RPC, or call a service that does; events go out where a log takes them"
        reader.wrong(given["uri"], f"{path}.uri", "publishes events, which no source here takes", allowed)
        return None
    if "body" not in given:
        reader.wrong(node, path, "has no body", "the event, or a list of events")
        return None
    for key in ("headers", "query", "timeout", "cloudevent"):
        if key in given:
            reader.wrong(given[key], f"{path}.{key}", "has no meaning for events", "leave it out")
    return Publish(compile_tree(reader, given["body"], f"{path}.body"), outline(given["body"]))


def _announce(reader: Reader, given: Mapping[str, Node], node: Node, path: str) -> Announce | None:
    if "body" not in given:
        reader.wrong(node, path, "has no body", "the change, or a list of changes: resource, version, …")
        return None
    for key in ("headers", "query", "timeout", "cloudevent"):
        if key in given:
            reader.wrong(given[key], f"{path}.{key}", "has no meaning for changes", "leave it out")
    return Announce(compile_tree(reader, given["body"], f"{path}.body"), outline(given["body"]))


def _call(reader: Reader, given: Mapping[str, Node], path: str, timeout_s: float) -> Call:
    method = "POST" if "cloudevent" in given else "GET"
    if "method" in given:
        method = (reader.text(given["method"], f"{path}.method") or method).upper()
        if method not in METHODS:
            reader.wrong(given["method"], f"{path}.method", f'is "{method}"', f"one of {', '.join(METHODS)}")
    if "timeout" in given:
        timeout_s = reader.seconds(given["timeout"], f"{path}.timeout", MAX_TIMEOUT_S) or timeout_s
    return Call(
        method=method,
        url=compile_text(reader, given["uri"], f"{path}.uri", address=True),
        headers=_headers(reader, given, f"{path}.headers"),
        query=_texts(reader, given, "query", f"{path}.query"),
        body=compile_tree(reader, given["body"], f"{path}.body") if "body" in given else None,
        timeout_s=timeout_s,
        cloudevent=read_cloudevent(reader, given["cloudevent"], f"{path}.cloudevent")
        if "cloudevent" in given
        else None,
    )


def _headers(reader: Reader, given: Mapping[str, Node], path: str) -> dict[str, Template]:
    found: dict[str, Template] = {}
    if "headers" not in given:
        return found
    for name, node in reader.entries(given["headers"], path).items():
        low = name.lower()
        where = f"{path}.{name}"
        if not _HEADER.fullmatch(name):
            reader.wrong(node, where, f'"{name}" is no name of a header', "letters, digits and '-'")
        elif low in _OURS:
            reader.wrong(node, where, "is set by the engine", "leave it out")
        elif low in found:
            reader.wrong(node, where, "is given twice", "names of headers differ by more than their case")
        else:
            found[low] = compile_text(reader, node, where)
        if low == "content-type" and isinstance(given.get("body"), MappingNode) and not _is_json(node):
            reader.wrong(node, where, "is not JSON, but the body is a mapping", "application/json, or a text as body")
    return found


def _texts(reader: Reader, given: Mapping[str, Node], key: str, path: str) -> dict[str, Template]:
    if key not in given:
        return {}
    return {
        name: compile_text(reader, node, f"{path}.{name}") if not _is_truth(node) else Template((node.value.lower(),))
        for name, node in reader.entries(given[key], path).items()
    }


def _is_truth(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.tag.endswith(":bool")


def _is_json(node: Node) -> bool:
    return isinstance(node, ScalarNode) and ("json" in node.value or "{{" in node.value)
