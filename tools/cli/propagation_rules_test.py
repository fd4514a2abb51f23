"""`wellspring propagation rules check`: without a server, every mistake with its line, and what an event would do."""

import json

import pytest
from click.testing import CliRunner

from tools.cli import failures
from tools.cli.main import cli

RULES = """\
rules:
  tell:
    topic: wellspring.resource.changed.v1
    cases:
      - match: {aspects: [title]}
        exec: {uri: 'http://search.example/titles/{message.resource}'}
      - match: {aspects: [content], meta: {domain: '/^(?<wiki>[a-z]+)wiki$/'}}
        exec:
          - {method: post, uri: 'http://search.example/{match.meta.domain.wiki}', body: {name: '{{message.resource}}'}}
          - method: purge
            uri: 'http://cache.example/{message.resource}'
            headers: {x-who: '{{message.cause.causer}}'}
  finished:
    topic: wellspring.change.completed.v1
    exec: {uri: 'http://search.example/finished'}
  silent:
    topic: wellspring.resource.changed.v1
"""
EVENT = {
    "meta": {"stream": "wellspring.resource.changed.v1", "uri": "enwiki/page/A b", "domain": "enwiki"},
    "resource": "enwiki/page/A b",
    "aspects": ["content"],
    "cause": {"causer": "me"},
}


@pytest.fixture
def check(tmp_path):
    def run(rules, event=None, *options):
        file = tmp_path / "rules.yaml"
        file.write_text(rules)
        arguments = ["propagation", "rules", "check", str(file), *options]
        if event is not None:
            given = tmp_path / "event.json"
            given.write_bytes(event if isinstance(event, bytes) else json.dumps(event).encode())
            arguments += ["--event", str(given)]
        return CliRunner().invoke(cli, arguments)

    return run


def test_a_good_file(check):
    found = check(RULES)
    assert found.exit_code == 0 and "good, 3 rules: tell, finished, silent" in found.output


def test_every_mistake_has_its_line(check):
    found = check(RULES.replace("method: purge", "method: burn").replace("    exec: {uri", "    limiters: {uri"))
    assert found.exit_code == failures.BAD_DATA
    assert "rules.yaml:10:" in found.output and "BURN" in found.output
    assert "rules.yaml:15:" in found.output and "limiters" in found.output
    lines = [json.loads(line) for line in check("rules: [1]", None, "--json").stdout.splitlines()]
    assert lines[0]["line"] == 1


def test_what_an_event_would_do(check):
    found = check(RULES, EVENT, "--json")
    assert found.exit_code == 0, found.output
    told = {one["rule"]: one for one in map(json.loads, found.stdout.splitlines())}
    assert told["tell"]["verdict"] == "matches" and told["tell"]["case"] == 1
    post, purge = told["tell"]["requests"]
    assert (post["method"], post["url"]) == ("POST", "http://search.example/en")
    assert json.loads(post["body"]) == {"name": "enwiki/page/A b"}
    assert purge["url"] == "http://cache.example/enwiki%2Fpage%2FA%20b" and purge["headers"] == {"x-who": "me"}
    assert "does not listen to" in told["finished"]["verdict"]
    assert "no exec" in told["silent"]["verdict"]
    assert "PURGE http://cache.example/" in check(RULES, EVENT).output


def test_what_an_event_lacks_is_said(check):
    found = check(RULES, EVENT | {"cause": {}})
    assert found.exit_code == 0 and "dead letter" in found.output.replace("\n", " ")


@pytest.mark.parametrize("event", [b"{", b"[1]", b"\xff\xfe", b"[" * 100_000])
def test_events_that_are_none(check, event):
    found = check(RULES, event)
    assert found.exit_code == failures.BAD_DATA and "Traceback" not in found.output
