"""Events of other systems become changes: in their order by version, once each, and refused by name when they are none.

The events have the shape of the published schemas that their `$schema` names, with the members that the rules use.
"""

import asyncio
import json
import os
from itertools import permutations
from pathlib import Path

import pytest
import yaml

from libs.config.config import ConfigError
from libs.errors.errors import InvalidArgument
from services.propagation.domain import listing
from services.propagation.rules.changes import version_of
from services.propagation.rules.memory import MemoryTopics
from services.propagation.rules.parsing import read_rules
from services.propagation.rules.testing.site import case, event, lives
from services.propagation.rules.topics import CHANGED

HERE = Path(os.path.abspath(__file__)).parent
EXAMPLE = HERE / "examples/mediawiki.yaml"


def changes(site):
    records = listing.accepted_after(site.engine.shard, 0, 1000)
    return [(one.change.resource, one.change.aspects, one.begun) for one in records]


def making(**body):
    return {"topic": "simple_test_rule", "exec": {"uri": "/sys/changes", "body": body}}


BODY = {"resource": "w/page/{{message.title}}", "version": "{{message.rev}}"}


@case
async def test_an_event_becomes_a_change_once_however_often_it_comes(site):
    await site.put({"r": making(**BODY)})
    for _ in range(3):
        await site.topics.put("simple_test_rule", event(title="A", rev=7))
    await site.idle()
    assert changes(site) == [("w/page/A", ("content",), True)]
    (record,) = listing.accepted_after(site.engine.shard, 0, 10)
    assert record.change.version == (7 << 64).to_bytes(16, "big") and record.change.cause.kind == "event"
    assert record.change.cause.request_id and record.change.id == f"r/{event()['meta']['id']}"


@case
async def test_what_is_no_change_is_a_dead_letter_by_name(site):
    await site.put({"r": making(**BODY, aspects="{{message.aspects}}")})
    bad = [
        {"title": "A", "rev": "x"},
        {"title": "A", "rev": -1},
        {"title": "A", "rev": True},
        {"title": "A"},
        {"title": "\x07", "rev": 1},
        {"title": "A" * 2000, "rev": 1},
        {"title": "A", "rev": 1, "aspects": "Not One"},
        {"title": "A", "rev": 1, "aspects": {"a": 1}},
    ]
    for at, more in enumerate(bad):
        plain = event(uri=f"u/{at}", **more)
        plain["meta"]["id"] = f"id-{at}"
        await site.topics.put("simple_test_rule", plain)
    await site.idle()
    letters = site.letters()
    assert len(letters) == len(bad) and not changes(site)
    assert all("changes[0]." in letter.detail and letter.attempts == 1 for letter in letters), letters


@case
async def test_several_changes_of_one_event_have_their_own_ids(site):
    two = [{"resource": "w/page/a", "version": 1}, {"resource": "w/page/b", "version": 1}]
    await site.put({"r": {"topic": "simple_test_rule", "exec": {"uri": "/sys/changes", "body": two}}})
    await site.topics.put("simple_test_rule", event())
    await site.idle()
    assert [resource for resource, _, _ in changes(site)] == ["w/page/a", "w/page/b"] and not site.letters()


@pytest.mark.parametrize(
    ("given", "version"),
    [
        (5, 5 << 64),
        ("5", 5 << 64),
        ("0" * 31 + "5", 5),
        ({"number": 5}, 5 << 64),
        ({"number": 5, "time": "1970-01-01T00:00:01Z"}, (5 << 64) + 1000),
        ({"time": "1970-01-01T01:00:00.002+01:00"}, 2),
    ],
)
def test_versions(given, version):
    assert version_of(given, "v") == version.to_bytes(16, "big")


@pytest.mark.parametrize(
    "given", [None, "", "x", 1.5, 1 << 64, {}, {"time": "x"}, {"number": 1, "a": 2}, {"time": 5}, []]
)
def test_no_versions(given):
    with pytest.raises(InvalidArgument, match="v"):
        version_of(given, "v")


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ({"topic": CHANGED, "exec": {"uri": "/sys/changes", "body": BODY}}, "goes in a circle"),
        ({"topic": "t", "exec": {"uri": "/sys/changes"}}, "has no body"),
        ({"topic": "t", "exec": {"uri": "/sys/changes", "body": BODY, "headers": {"a": "b"}}}, "has no meaning"),
    ],
)
def test_rules_that_cannot_make_changes_are_refused(rule, says):
    with pytest.raises(ConfigError, match=says):
        read_rules(json.dumps({"rules": {"r": rule}}), ["t", CHANGED])


# -- MediaWiki's events, by the rules of the example -------------------------------------------------------------------


def told(schema, stream, at, **more):
    meta = {
        "stream": stream,
        "uri": "https://en.wikipedia.org/wiki/X",
        "id": f"{stream}/{at}",
        "request_id": "r",
        "dt": f"2026-01-01T00:00:{at:02}Z",
        "domain": "en.wikipedia.org",
    }
    return {"$schema": schema, "meta": meta, "database": "enwiki", "page_title": "X", **more}


HISTORY = [
    told("/mediawiki/revision/create/1.1.0", "mediawiki.revision-create", 1, rev_id=10, page_id=1),
    told("/mediawiki/revision/create/1.1.0", "mediawiki.revision-create", 2, rev_id=11, page_id=1),
    told("/mediawiki/page/delete/1.0.0", "mediawiki.page-delete", 3, rev_id=11, page_id=1),
    told("/mediawiki/page/undelete/1.0.0", "mediawiki.page-undelete", 4, rev_id=11, page_id=1),
]


def topics_of(text):
    return {name for rule in yaml.safe_load(text)["rules"].values() for name in rule.get("topics") or [rule["topic"]]}


def newest(site):
    """What the engine knows as newest, by resource and aspect."""
    found = {}
    for one in listing.accepted_after(site.engine.shard, 0, 1000):
        for aspect in one.change.aspects:
            key = (one.change.resource, aspect)
            found[key] = max(found.get(key, b""), one.change.version)
    return found


def test_the_example_is_good_and_each_of_its_topics_has_its_event():
    text = EXAMPLE.read_text()
    names = topics_of(text)
    rules = read_rules(text, names)
    wanted = {
        "mediawiki.revision-create": ({"rev_id": 12}, ["enwiki/page/X"]),
        "mediawiki.page-delete": ({"rev_id": 12}, ["enwiki/page/X"]),
        "mediawiki.page-undelete": ({"rev_id": 12}, ["enwiki/page/X"]),
        "mediawiki.page-move": (
            {"rev_id": 12, "prior_state": {"page_title": "Old"}},
            ["enwiki/page/X", "enwiki/page/Old"],
        ),
        "mediawiki.page-links-change": ({"rev_id": 12}, ["enwiki/page/X"]),
        "mediawiki.revision-visibility-change": ({"rev_id": 12}, ["enwiki/page/X"]),
        "mediawiki.page_change.v1": (
            {"wiki_id": "enwiki", "page": {"page_title": "X"}, "revision": {"rev_id": 12}, "page_change_kind": "edit"},
            ["enwiki/page/X"],
        ),
        "resource_change": ({}, ["https://en.wikipedia.org/wiki/X"]),
    }
    assert set(wanted) == names
    for topic, (more, resources) in wanted.items():
        plain = told("/x/1.0.0", topic, 1, **more)
        found = []
        for rule in rules.rules.values():
            if topic in rule.topics:
                decision = rule.consider(plain)
                for action in decision.actions:
                    found += [one.resource for one in action.build(decision.context).changes("id", "")]
        assert found == resources, topic
    canary = told("/x/1.0.0", "mediawiki.revision-create", 1, rev_id=1)
    canary["meta"]["domain"] = "canary"
    decision = rules.rules["canaries"].consider(canary)
    (change,) = decision.actions[0].build(decision.context).changes("id", "")
    assert change.cause.kind == "canary" and dict(change.attributes)["source"] == "mediawiki.revision-create"
    assert not rules.rules["edits"].consider(canary).actions


def test_n28_late_repeated_and_reordered_events_end_in_the_same_state():
    """Each order has a wiki of its own; the last event of each order comes twice."""

    async def main():
        text = EXAMPLE.read_text()
        orders = list(permutations(HISTORY))
        async with lives(topics=MemoryTopics(topics_of(text))) as opened:
            site = await opened()
            await site.rules.put(text)
            for number, order in enumerate(orders):
                for one in (*order, order[-1]):
                    meta = {**one["meta"], "uri": f"u/{number}", "id": f"{one['meta']['id']}/{number}"}
                    await site.topics.put(one["meta"]["stream"], {**one, "meta": meta, "database": f"w{number}"})
            await site.idle()
            assert not site.letters()
            ends = newest(site)
            undeleted = version_of({"number": 11, "time": HISTORY[-1]["meta"]["dt"]}, "")
            for number in range(len(orders)):
                for aspect in ("content", "existence"):
                    assert ends[f"w{number}/page/X", aspect] == undeleted
            begun = [resource for resource, _, begun in changes(site) if begun]
            assert len(changes(site)) == len(orders) * len(HISTORY), "what comes twice is one change"
            assert all(1 <= begun.count(f"w{number}/page/X") <= len(HISTORY) for number in range(len(orders)))

    asyncio.run(main())
