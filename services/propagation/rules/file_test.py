"""A rules file with mistakes: each is told with its line and what is allowed, and noise is never another error."""

import random

import pytest

from libs.config.config import ConfigError
from services.propagation.rules.parsing import read_rules
from services.propagation.rules.templates import TemplateFailed

TOPICS = ("mock_topic", "other.topic", "third")

FILE = """\
service: wellspring
globals: {host: pages.example}
rules:
  purge_pages:
    topic: mock_topic
    match: {meta: {uri: '/^a/'}}
    exec:
      method: post
      uri: 'http://{{globals.host}}/x'
      headers: {content-type: application/json}
      body: {title: '{{message.title}}'}
    retry_limit: 2
"""


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("service: ", "sevice: ", 1, 'did you mean "service"'),
        ("rules:", "rules: []\nmore:", 3, "is a list"),
        ("purge_pages", "purge pages", 5, "no name of a rule"),
        ("topic: mock_topic", "topic: mock_topics", 5, "no source has the topic"),
        ("topic: mock_topic", "topic: mock_topic\n    topic: third", 6, "given twice"),
        ("topic: mock_topic", "topic: mock_topic\n    topics: [third]", 6, "stands beside topic"),
        ("topic: mock_topic", "topic: '/nothing/'", 5, "no source has the topic"),
        ("topic: mock_topic", "topic: {a: b}", 5, "is a mapping"),
        ("match: {meta: {uri: '/^a/'}}", "match: [a]", 6, "no condition"),
        ("'/^a/'", "'/a(/'", 6, "malformed"),
        ("'/^a/'", "2026-01-01", 6, "in quotes"),
        ("'/^a/'", "'/a/y'", 6, "flag y"),
        ("method: post", "method: fetch", 8, "GET, POST"),
        ("uri: 'http", "url: 'http", 9, 'did you mean "uri"'),
        ("http://{{globals.host}}/x", "ftp://a/", 9, "no address"),
        ("http://{{globals.host}}/x", "/sys/purge/", 9, "a view's `purge`"),
        ("http://{{globals.host}}/x", "/sys/links/transcludes/x", 9, "declares what a page depends on"),
        ("{{globals.host}}", "{{hosts}}", 9, "message.…"),
        ("{{globals.host}}", "{{merge(message.a)}}", 9, "message.…"),
        ("/x'", "/{{x'", 9, "not closed"),
        ("content-type: application/json", "x-triggered-by: me", 10, "set by the engine"),
        ("content-type: application/json", "content-type: text/plain", 10, "not JSON"),
        ("content-type: application/json", "'a b': c", 10, "no name of a header"),
        ("retry_limit: 2", "retry_limit: many", 12, "0 to 100"),
        ("retry_limit: 2", "retry_limit: 1.5", 12, "whole number"),
        ("retry_limit: 2", "retry_delay: 3 parsecs", 12, "milliseconds"),
        ("retry_limit: 2", "retry_delay: -1", 12, "milliseconds"),
        ("retry_limit: 2", "retry_on: {status: [50]}", 12, "three digits"),
        ("retry_limit: 2", "retry_on: {headers: {a: b}}", 12, "only the status"),
        ("retry_limit: 2", "concurrency: 0", 12, "1 to 1000"),
        ("retry_limit: 2", "delay: 2d", 12, "at most 86400"),
        ("retry_limit: 2", "limiters: {blacklist: x}", 12, "match_not"),
        ("retry_limit: 2", "claim_ttl: 3", 12, "nothing is dropped"),
        ("retry_limit: 2", "discard_canary_events: maybe", 12, "true or false"),
        ("retry_limit: 2", "cases: []", 12, "at least one case"),
        ("retry_limit: 2", "cases: [{exec: {uri: 'http://a/'}}]", 6, "stands beside cases"),
        ("retry_limit: 2", "a: &x 1\n    b: *x", 13, "alias"),
        ("retry_limit: 2", "retry_limit: [", 13, "not YAML"),
        ("{host: pages.example}", "{message: x}", 2, "is the event itself"),
    ],
)
def test_each_mistake_has_its_line(old, new, line, says):
    assert FILE.count(old) == 1, old
    read_rules(FILE, TOPICS)
    with pytest.raises(ConfigError) as caught:
        read_rules(FILE.replace(old, new), TOPICS)
    mistakes = caught.value.mistakes
    assert any(one.line == line and says in str(one) for one in mistakes), [str(one) for one in mistakes]


def test_noise_is_never_another_error():
    seed = 11
    print(f"seed {seed}")
    rng = random.Random(seed)
    for _ in range(600):
        at = rng.randrange(len(FILE))
        noise = rng.choice(
            ["{", "}", ":", "\t", "- ", "\x00", "é", "&a", "*a", "!!python", "", "[", "]", "'", "\n", "~", "/", "("]
        )
        try:
            rules = read_rules(FILE[:at] + noise + FILE[at + rng.randrange(4) :], TOPICS)
        except ConfigError:
            continue
        for one in rules.rules.values():
            found = one.consider({"meta": {"uri": "a"}, "title": 1})
            for action in found.actions:
                try:
                    action.build(found.context)
                except TemplateFailed:
                    continue


def test_an_empty_file_has_no_rules():
    assert read_rules("", TOPICS).rules == {}
