"""`wellspring propagation rules`: what is called for which events."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from libs.config.config import ConfigError
from services.propagation.rules.parsing import read_rules
from services.propagation.rules.rule import Decision, Rule, Verdict
from services.propagation.rules.templates import TemplateFailed
from services.propagation.rules.topics import ENGINE_TOPICS
from tools.cli.failures import BAD_DATA, Failure
from tools.cli.output import Row, counted
from tools.cli.propagation_views import file_text, refuse_mistakes
from tools.cli.target import Target, target_options

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.group()
def rules() -> None:
    """The rules of the deployment: which requests follow from which events."""


@rules.command()
@click.argument("file", type=_FILE)
@click.option("--event", "event_file", type=_FILE, help="A JSON file with an event: what would follow from it.")
@click.option(
    "--topic",
    "topics",
    multiple=True,
    metavar="NAME",
    help="A topic of Kafka that the engine reads (`events.topics`); repeatable. Rules may then publish events, too.",
)
@target_options
def check(to: Target, file: Path, event_file: Path | None, topics: tuple[str, ...]) -> None:
    """Find every mistake in a rules file, with its place; and tell what an event would do. No service is asked.

    \b
    Examples
      wellspring propagation rules check rules.yaml
      wellspring propagation rules check rules.yaml --event event.json
      wellspring propagation rules check rules.yaml --topic mediawiki.page-change
    """
    text = file_text(file)
    try:
        found = read_rules(text, ENGINE_TOPICS.union(topics), str(file), publishes=bool(topics))
    except ConfigError as error:
        refuse_mistakes(to, file, [replace(one, what=f"{one.path}: {one.what}") for one in error.mistakes])
        raise
    if event_file is None:
        names = list(found.rules)
        said = f"{file}: good, {counted(len(names), 'rule')}: {', '.join(names)}"
        to.out.object({"file": str(file), "rules": names}, said)
        return
    event = _event(event_file)
    told = [_would(rule, event) for rule in found.rules.values()]
    rows: list[Row] = [
        (one, (one["rule"], one["verdict"], "" if one["case"] is None else str(one["case"]), _shown(one["requests"])))
        for one in told
    ]
    to.out.table(["rule", "the event", "case", "requests"], rows, "no rules")


@rules.command()
@click.argument("file", type=_FILE)
@click.option("--if-revision", type=click.IntRange(1), help="Only when this is the revision in force.")
@target_options
def put(to: Target, file: Path, if_revision: int | None) -> None:
    """Make the rules in FILE all the rules of the deployment; events from now on run under them.

    \b
    Example
      wellspring propagation rules put rules.yaml
    """
    with to.client() as client:
        answer = client.propagation.admin.put_rules(file_text(file), if_revision=if_revision or 0)
    refuse_mistakes(to, file, answer.mistakes)
    to.out.object({"revision": answer.revision}, f"in force as revision {answer.revision}")


@rules.command("list")
@target_options
def list_(to: Target) -> None:
    """Show the rules in force, as they were put.

    \b
    Example
      wellspring propagation rules list
    """
    with to.client() as client:
        answer = client.propagation.admin.list_rules()
    said = answer.yaml.rstrip("\n") or "no rules; `rules put FILE` makes some"
    to.out.object({"revision": answer.revision, "yaml": answer.yaml}, said)


def _event(file: Path) -> Mapping[str, object]:
    try:
        event = json.loads(file_text(file))
    except (ValueError, RecursionError) as error:
        raise Failure(f"{file} is no JSON: {error}", BAD_DATA) from None
    if not isinstance(event, dict):
        raise Failure(f"{file} holds {type(event).__name__}; an event is a JSON object", BAD_DATA)
    return event


def _would(rule: Rule, event: Mapping[str, object]) -> dict[str, Any]:
    """What the rule would do with the event."""
    meta = event.get("meta")
    stream = meta.get("stream") if isinstance(meta, Mapping) else None
    told: dict[str, Any] = {"rule": rule.name, "verdict": "", "case": None, "requests": []}
    if isinstance(stream, str) and stream not in rule.topics:
        return told | {"verdict": f"is of {stream}, which the rule does not listen to"}
    decision = rule.consider(event)
    told |= {"verdict": decision.verdict.value, "case": decision.case if decision.case >= 0 else None}
    if decision.verdict is Verdict.MATCHES:
        told |= _built(decision)
    return told


def _built(decision: Decision) -> dict[str, Any]:
    try:
        return {"requests": [action.build(decision.context).shown() for action in decision.actions]}
    except TemplateFailed as problem:
        return {"verdict": f"matches, and would be a dead letter: {problem}"}


def _shown(requests: list[dict[str, Any]]) -> str:
    return "\n".join(_line(one) for one in requests)


def _line(request: dict[str, Any]) -> str:
    if "publish" in request:
        return f"publish {json.dumps(request['publish'], ensure_ascii=False)}"
    if "changes" in request:
        return f"change {json.dumps(request['changes'], ensure_ascii=False)}"
    headers = "".join(f" [{name}: {value}]" for name, value in request["headers"].items())
    return f"{request['method']} {request['url']}{headers} {request.get('body', '')}".rstrip()
