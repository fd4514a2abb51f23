"""Loops of rules: those that a file shows are refused with the lines of all in them; others end when they run."""

import asyncio
import json

import pytest

from libs.config.config import ConfigError
from services.propagation.rules.memory import MemoryTopics
from services.propagation.rules.parsing import read_rules
from services.propagation.rules.performing import MAX_HOPS, MAX_TURNS
from services.propagation.rules.testing.site import RID, URI, call_of, case, event, lives
from services.propagation.rules.topics import CHANGED, COMPLETED, ENGINE_TOPICS

TOPICS = ("a", "b", "c", *ENGINE_TOPICS)


def publishes(topic, stream, match=None, **more):
    body = {"meta": {"stream": stream, "uri": "{{message.meta.uri}}"}, **more}
    rule = {"topic": topic, "exec": {"method": "post", "uri": "/sys/queue/events", "body": body}}
    return rule if match is None else rule | match


def changes(topic, **more):
    return {
        "topic": topic,
        "exec": {"uri": "/sys/changes", "body": {"resource": "r/{{message.n}}", "version": 1, **more}},
    }


def refused(**rules):
    try:
        read_rules(json.dumps({"rules": rules}), TOPICS, publishes=True)
    except ConfigError as error:
        return [one.what for one in error.mistakes]
    return []


def turns(**rules):
    """The names in each loop."""
    told = refused(**rules)
    return [[word.split(" ")[0] for word in one.removeprefix("leads round for ever: ").split(" → ")] for one in told]


def test_loops_of_one_of_two_and_of_three_topics():
    assert turns(x=publishes("a", "a")) == [["x", "x"]]
    assert turns(x=publishes("a", "{{message.meta.stream}}")) == [["x", "x"]]
    assert turns(x=publishes("a", "b"), y=publishes("b", "a")) == [["x", "y", "x"]]
    assert turns(x=publishes("a", "b"), y=publishes("b", "c"), z=publishes("c", "a")) == [["x", "y", "z", "x"]]
    assert turns(x=publishes("a", "b"), y=publishes("b", "c"), z=publishes("c", "b")) == [["y", "z", "y"]]
    assert turns(x={"topics": ["/./"], **{k: v for k, v in publishes("a", "c").items() if k != "topic"}}) == [
        ["x", "x"]
    ]
    both = publishes("a", "b")
    both["exec"]["body"] = [both["exec"]["body"], {"meta": {"stream": "a"}}]
    assert turns(x=both) == [["x", "x"]]


def test_loops_through_the_engine():
    assert turns(x=changes("a"), y=publishes(CHANGED, "a")) == [["x", "y", "x"]]
    assert turns(x=changes("a"), y=publishes(COMPLETED, "a")) == [["x", "y", "x"]]
    assert not turns(x=changes("a"), y=publishes(CHANGED, "b"))
    # Changes that rules made say so, unless they say otherwise.
    own = {"match_not": {"cause": {"kind": "event"}}}
    assert not turns(x=changes("a"), y=publishes(CHANGED, "a", own))
    assert turns(x=changes("a", cause={"kind": "edit"}), y=publishes(CHANGED, "a", own)) == [["x", "y", "x"]]
    assert turns(x=changes("a", cause={"kind": "{{message.k}}"}), y=publishes(CHANGED, "a", own)) == [["x", "y", "x"]]
    assert not turns(
        x=changes("a"), y=publishes(CHANGED, "a", {"match": {"resource": "/^other/", "cause": {"kind": "x"}}})
    )


@pytest.mark.parametrize(
    ("match", "more"),
    [
        ({"match": {"kind": "first"}}, {"kind": "second"}),
        ({"match": {"kind": "/^f/"}}, {"kind": "second"}),
        ({"match": {"kind": 1}}, {"kind": "1"}),
        ({"match": {"kind": "first"}}, {}),
        ({"match": {"tags": ["a", "b"]}}, {"tags": ["a"]}),
        ({"match_not": {"tags": ["mine"]}}, {"tags": ["mine", "{{message.x}}"]}),
        ({"match_not": [{"kind": "x"}, {"kind": "undefined"}]}, {}),
        ({"match": {"meta": {"stream": "b"}}}, {}),
    ],
)
def test_what_surely_does_not_come_back_is_no_loop(match, more):
    assert not turns(x=publishes("a", "a", match, **more))


@pytest.mark.parametrize(
    ("match", "more"),
    [
        ({"match": {"kind": "first"}}, {"kind": "{{message.kind}}"}),
        ({"match": {"kind": "/^f/"}}, {"kind": "f{{message.kind}}"}),
        ({"match": {"kind": {"deep": 1}}}, {"kind": "{{message.kind}}"}),
        ({"match": {"tags": ["a", "b"]}}, {"tags": ["a", "{{message.x}}"]}),
        ({"match": {"tags": ["a"]}}, {"tags": "{{message.tags}}"}),
        ({"match_not": {"tags": ["mine"]}}, {"tags": ["{{message.x}}"]}),
        ({"match_not": {"kind": "x"}}, {"kind": "{{message.kind}}"}),
        ({"match": {"meta": {"id": "/./", "domain": "a"}, "triggered_by": "/x/"}}, {}),
        ({"match": [{"kind": "no"}, {"kind": "yes"}]}, {"kind": "yes"}),
    ],
)
def test_what_may_come_back_is_a_loop(match, more):
    assert turns(x=publishes("a", "a", match, **more)) == [["x", "x"]]


def test_cases_are_told_apart():
    body = {"meta": {"stream": "a"}, "kind": "second"}
    again = {"uri": "/sys/queue/events", "body": body}
    first = {"match": {"kind": "first"}, "exec": again}
    assert not turns(x={"topic": "a", "cases": [first, {"match": {"kind": "second"}, "exec": {"uri": "http://h/"}}]})
    # What an earlier case takes comes to no later one.
    kept = {"match": {"kind": "second"}, "exec": {"uri": "http://h/"}}
    assert not turns(x={"topic": "a", "cases": [kept, {"exec": again}]})
    assert turns(x={"topic": "a", "cases": [{"exec": again}, kept]}) == [["x", "x"]]


def test_a_large_file_of_rules_is_looked_through_in_one_go():
    """Ten topics, thirty rules on each, all of which publish to the next: 8,100 ways, and no loop; then one."""
    names = [f"t{at}" for at in range(11)]
    rules = {f"r{at}_{n}": publishes(names[at], names[at + 1]) for at in range(10) for n in range(30)}
    read_rules(json.dumps({"rules": rules}), names, publishes=True)
    rules["r9_0"] = publishes(names[9], names[8])
    with pytest.raises(ConfigError, match="r8_0 .* → r9_0 .* → r8_0"):
        read_rules(json.dumps({"rules": rules}), names, publishes=True)


def test_a_loop_is_told_with_the_lines_of_all_its_rules():
    text = """\
rules:
  first:
    topic: a
    exec:
      uri: /sys/queue/events
      body: {meta: {stream: b}}
  second:
    topic: b
    cases:
      - match: {kind: other}
        exec: {uri: 'http://h/'}
      - exec:
          uri: /sys/queue/events
          body: {meta: {stream: a}}
"""
    with pytest.raises(ConfigError) as caught:
        read_rules(text, TOPICS, "rules.yaml", publishes=True)
    (mistake,) = caught.value.mistakes
    assert (mistake.line, mistake.path) == (13, "rules.second.cases[1].exec")
    assert mistake.what == "leads round for ever: first (line 5) → second (line 13) → first"


HIDDEN = {
    "uri": "/sys/queue/events",
    "body": {"meta": {"stream": "{{message.next}}", "uri": URI}, "next": "{{message.next}}"},
}


@case
async def test_a_loop_that_the_file_does_not_show_ends_as_a_dead_letter(site):
    rules = {"x": {"topic": "simple_test_rule", "exec": HIDDEN}}
    await site.put(rules)
    await site.topics.put("simple_test_rule", event(next="simple_test_rule"))
    await site.until(site.letters)
    await site.idle()
    (letter,) = site.letters()
    assert letter.reason == "LOOP" and "come by here" in letter.detail
    assert len(site.topics.published) == MAX_TURNS


@case
async def test_a_loop_that_hides_its_chain_or_changes_its_uri_ends_too(site):
    hidden = json.loads(json.dumps(HIDDEN))
    hidden["body"]["triggered_by"] = "me"
    hidden["body"]["meta"]["uri"] = "{{message.meta.uri}}x"
    await site.put({"x": {"topic": "simple_test_rule", "exec": hidden}})
    await site.topics.put("simple_test_rule", event(next="simple_test_rule"))
    await site.until(site.letters)
    await site.idle()
    (letter,) = site.letters()
    assert letter.reason == "LOOP" and "one after the other" in letter.detail
    assert len(site.topics.published) == MAX_HOPS


def test_a_loop_through_somebody_else_ends_by_the_chain_that_he_hands_on():
    async def main():
        topics = MemoryTopics(["simple_test_rule"])
        async with lives(topics=topics) as opened:
            site = await opened()
            await site.put({"x": call_of("/")})

            async def answered(_):
                chain = site.stub.chains[-1]
                await topics.put("simple_test_rule", event(triggered_by=chain))

            site.stub.gate = answered
            await topics.put("simple_test_rule", event())
            await site.until(site.letters)
            await site.idle()
            (letter,) = site.letters()
            assert letter.reason == "LOOP" and len(site.stub.calls) == MAX_TURNS
            assert site.stub.chains[1] == f"req:{RID},simple_test_rule:{URI},simple_test_rule:{URI}"

    asyncio.run(main())
