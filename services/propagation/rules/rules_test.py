"""What a rules file means: conditions, templates, samples; and what is refused, where."""

import json
import random

import pytest

from libs.config.config import ConfigError
from services.propagation.rules.parsing import read_rules
from services.propagation.rules.requests import Publication
from services.propagation.rules.rule import Verdict
from services.propagation.rules.sampling import murmur3_32
from services.propagation.rules.templates import TemplateFailed

TOPICS = ("mock_topic", "other.topic", "third")
M = {
    "meta": {"uri": "a/fake/uri/for/you", "request_id": "12345678-9101"},
    "number": 1,
    "string": "oolala",
}
CALL = {"method": "get", "uri": "http://mock.com/"}


def rule(**spec):
    spec = {"topic": "mock_topic", "exec": CALL} | spec
    text = json.dumps({"rules": {"rule": {key: value for key, value in spec.items() if value is not None}}})
    return read_rules(text, TOPICS).rules["rule"]


def matches(spec, message=M):
    return rule(**spec).consider(message).verdict is Verdict.MATCHES


def refused(spec):
    with pytest.raises(ConfigError) as caught:
        rule(**spec)
    return "\n".join(map(str, caught.value.mistakes))


def test_r01_a_rule_without_a_topic_is_refused():
    assert "names no topic" in refused({"topic": None})
    refused({"topic": ""})
    refused({"topic": None, "topics": []})


def test_r02_a_rule_without_exec_does_nothing():
    assert rule(exec=None).consider(M).verdict is Verdict.NO_ACTION


def test_r03_one_request_is_a_list_of_one():
    assert len(rule().cases[0].actions) == 1


def test_r04_requests_come_in_their_order():
    found = rule(exec=[{"uri": "http://a/1"}, {"uri": "http://a/2", "method": "post"}]).consider(M)
    assert [action.build(found.context).url for action in found.actions] == ["http://a/1", "http://a/2"]


def test_r05_without_match_everything_matches():
    assert matches({})


def test_r06_plain_values_match():
    assert matches({"match": {"number": 1, "string": "oolala"}})


def test_r07_types_count():
    assert not matches({"match": {"number": 2, "string": "oolala"}})
    assert not matches({"match": {"number": "1"}})
    assert not matches({"match": {"number": True}})
    assert matches({"match": {"number": 1.0}})


def test_r08_a_pattern_is_searched():
    assert matches({"match": {"number": 1, "string": "/(?:la)+/"}})
    assert matches({"match": {"string": "/LALA$/i"}})


def test_r09_a_pattern_for_an_absent_field_does_not_match():
    assert not matches({"match": {"undefined_string": "/.+/"}})
    assert not matches({"match": {"absent": {"deeper": "/.+/"}}})
    assert not matches({"match": {"number": "/.+/"}})


def test_r10_a_pattern_that_is_not_found_does_not_match():
    assert not matches({"match": {"string": "/lah/"}})


def test_r11_each_member_of_a_list_is_found_somewhere():
    wanted = {"match": {"array": ["1", 2, "/(\\d)/"]}}
    assert matches(wanted, {"array": [2, "1", "3", "4", 5]})
    assert not matches(wanted, {"array": [2, 1, 5]})
    assert not matches(wanted, {"array": "12"})


def test_r12_a_malformed_pattern_is_refused():
    assert "slash within" in refused({"match": {"string": "/l/ah/"}})
    assert "malformed" in refused({"match": {"string": "/l(ah/"}})


def test_r13_match_not_that_does_not_hold():
    assert matches({"match_not": {"meta": {"uri": "/my-url/"}}})


def test_r14_one_of_several_match_not_is_enough():
    spec = {"match_not": [{"meta": {"uri": "/my-url/"}}, {"meta": {"uri": "/other-url/"}}]}
    assert matches(spec)
    assert not matches(spec, {"meta": {"uri": "my-url"}})
    assert not matches(spec, {"meta": {"uri": "other-url"}})


def test_r15_match_holds_and_match_not_does_not():
    assert matches({"match": {"number": 1, "string": "oolala"}, "match_not": {"meta": {"uri": "/my-url/"}}})


def test_r16_match_not_wins():
    assert not matches({"match": {"number": 1, "string": "oolala"}, "match_not": {"meta": {"uri": "/\\/fake\\//"}}})


def test_r17_match_that_fails():
    assert not matches({"match": {"number": 10, "string": "oolala"}, "match_not": {"meta": {"uri": "/my-url/"}}})


def test_r18_canaries_are_discarded():
    canary = {"meta": {"domain": "canary"}}
    assert rule(discard_canary_events=True).consider(canary).verdict is Verdict.CANARY
    assert rule().consider(canary).verdict is Verdict.CANARY


def test_r19_canaries_match_when_they_are_kept():
    assert matches({"discard_canary_events": False}, {"meta": {"domain": "canary"}})


def test_r20_unnamed_groups_are_a_list():
    found = rule(
        match={"meta": {"uri": "/\\/fake\\/([^\\/]+)/"}, "number": 1},
        exec={"uri": "http://a/{{match.meta.uri[1]}}/{{match.number}}"},
    ).consider(M)
    assert found.context["match"]["meta"]["uri"] == ["/fake/uri", "uri"]
    assert found.actions[0].build(found.context).url == "http://a/uri/1"


def test_r21_named_groups_are_fields():
    found = rule(
        match={"meta": {"uri": "/\\/fake\\/(?<element>[^\\/]+)/"}}, exec={"uri": "http://a/{match.meta.uri.element}"}
    ).consider(M)
    assert found.context["match"]["meta"]["uri"] == {"element": "uri"}
    assert found.actions[0].build(found.context).url == "http://a/uri"


def test_r22_named_and_unnamed_groups_do_not_mix():
    assert "mixes named and unnamed groups" in refused({"match": {"meta": {"uri": "/(\\w+)\\/(?<element>[^\\/]+)/"}}})


def test_p01_a_sample_is_a_share_of_the_keys():
    seed = 20_260_101
    print(f"seed {seed}")
    rng = random.Random(seed)
    one = rule(sample={"rate": 0.2, "hash_template": "{{message.meta.domain}}-{{message.page_title}}"})
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    events = [
        {"meta": {"domain": "en.wikipedia.org"}, "page_title": "".join(rng.choices(letters, k=12))}
        for _ in range(10_000)
    ]
    taken = [event for event in events if one.consider(event).verdict is Verdict.MATCHES]
    assert abs(len(taken) / len(events) - 0.2) < 0.01
    assert all(one.consider(event).verdict is Verdict.MATCHES for event in taken)
    assert one.consider({"meta": {}}).verdict is Verdict.NOT_SAMPLED
    for wrong in ({"rate": 0.2}, {"hash_template": "{{message.a}}"}):
        assert "is missing" in refused({"sample": wrong})
    for rate in (0, 0.001, 1.1, "many", True):
        assert "0.01 to 1" in refused({"sample": {"rate": rate, "hash_template": "{{message.a}}"}})


def test_the_hash_is_murmur3():
    known = {
        "": 0,
        "hello": 0x248BFA47,
        "hello, world": 0x149BBB7F,
        "The quick brown fox jumps over the lazy dog": 0x2E4FF723,
    }
    assert {text: murmur3_32(text.encode()) for text in known} == known


def test_the_first_case_that_holds_is_taken():
    one = rule(
        exec=None,
        cases=[
            {"match": {"number": 2}, "exec": {"uri": "http://a/2"}},
            {"match": {"number": "undefined"}, "exec": {"uri": "http://a/none"}},
            {"exec": {"uri": "http://a/any"}},
        ],
    )
    assert [one.consider(event).case for event in ({"number": 2}, {}, {"number": 3})] == [0, 1, 2]
    assert one.consider("text").verdict is Verdict.NO_OBJECT and one.consider(None).verdict is Verdict.NO_OBJECT


def test_templates_fill_every_part_of_a_request():
    found = rule(
        exec={
            "method": "post",
            "uri": "https://{{message.meta.domain}}/w/{message.title}?a=1",
            "query": {"redirect": False, "n": "{{message.n}}"},
            "headers": {"If-Unmodified-Since": "{{date(message.meta.dt)}}", "X-Tag": "{{encode(message.tags[1])}}"},
            "body": {
                "whole": "{{message.n}}",
                "absent": "{{message.no}}",
                "text": "n={{message.n}}",
                "list": [1, None],
            },
        }
    ).consider(
        {
            "meta": {"domain": "en.wikipedia.org", "dt": "2026-11-22T10:00:00+01:00"},
            "title": "A/Ü b",
            "n": 7,
            "tags": [0, "é"],
        }
    )
    made = found.actions[0].build(found.context)
    assert made.method == "POST"
    assert made.url == "https://en.wikipedia.org/w/A%2F%C3%9C%20b?a=1&redirect=false&n=7"
    assert made.headers["if-unmodified-since"] == "Sun, 22 Nov 2026 09:00:00 GMT"
    assert made.headers["x-tag"] == "%C3%A9"
    assert json.loads(made.body) == {"whole": 7, "text": "n=7", "list": [1, None]}
    assert made.headers["content-type"] == "application/json"


def test_functions_and_constants():
    path = "{decode(message.t)}/{{default(message.x, 'none')}}/{{encode(message.t)}}"
    text = json.dumps(
        {
            "globals": {"host": "pages.example"},
            "rules": {
                "rule": {
                    "topic": "third",
                    "exec": {
                        "method": "post",
                        "uri": "http://{{globals.host}}/" + path,
                        "body": "{{globals.message}}",
                    },
                }
            },
        }
    )
    found = read_rules(text, TOPICS).rules["rule"].consider({"t": "a%2Fb"})
    made = found.actions[0].build(found.context)
    assert made.url == "http://pages.example/a%2Fb/none/a%252Fb"
    assert json.loads(made.body) == {"t": "a%2Fb"}


@pytest.mark.parametrize(
    ("uri", "event", "says"),
    [
        ("http://a/{{message.x}}", {}, "is not in the event"),
        ("http://{{message.x}}/", {"x": "evil.example/p?"}, "no name of a host"),
        ("http://{{message.x}}/", {"x": "user@evil.example"}, "no name of a host"),
        ("{{message.x}}://a/", {"x": "file"}, "no scheme"),
        ("http://a/{{message.x}}", {"x": "b\r\nX-Evil: 1"}, "control character"),
        ("http://a/{{message.x}}", {"x": "y" * 9_000}, "no address"),
        ("http://a:{{message.x}}/", {"x": ""}, ""),
    ],
)
def test_an_event_cannot_bend_an_address(uri, event, says):
    found = rule(exec={"uri": uri}).consider(event)
    if not says:
        found.actions[0].build(found.context)
        return
    with pytest.raises(TemplateFailed, match=says):
        found.actions[0].build(found.context)


def test_a_header_takes_no_line_breaks():
    found = rule(exec={"uri": "http://a/", "headers": {"x": "{{message.x}}"}}).consider({"x": "1\r\ny: 2"})
    with pytest.raises(TemplateFailed, match="printable ASCII"):
        found.actions[0].build(found.context)


def test_events_are_published_where_they_can_be():
    spec = {
        "topic": "third",
        "exec": {"method": "post", "uri": "/sys/queue/events", "body": [{"meta": {"stream": "{{message.to}}"}}]},
    }
    text = json.dumps({"rules": {"r": spec}})
    with pytest.raises(ConfigError, match="which no source here takes"):
        read_rules(text, TOPICS)
    one = read_rules(text, TOPICS, publishes=True).rules["r"]
    found = one.consider({"to": "other.topic"})
    assert found.actions[0].build(found.context) == Publication((("other.topic", {"meta": {"stream": "other.topic"}}),))
    found = one.consider({})
    with pytest.raises(TemplateFailed, match=r"meta\.stream"):
        found.actions[0].build(found.context)


def test_topics_by_pattern_and_those_left_out():
    one = rule(topic=None, topics=["/topic$/", "third"], exclude_topics=["other.topic", "unheard_of"])
    assert one.topics == {"mock_topic", "third"}


def test_a_request_has_its_own_time_its_rules_or_the_usual_one():
    two = [{"uri": "http://a/1", "timeout": "2s"}, {"uri": "http://a/2"}]
    for given, times in ({"timeout": 500}, [2.0, 0.5]), ({}, [2.0, 30.0]):
        found = rule(exec=two, **given).consider(M)
        assert [action.build(found.context).timeout_s for action in found.actions] == times


def test_times_and_statuses():
    one = rule(retry_delay=10, retry_limit=3, delay="2m", retry_on={"status": ["50x", 400]}, ignore={"status": [403]})
    assert (one.retries.delay_s, one.retries.limit, one.delay_s) == (0.01, 3, 120.0)
    assert [status for status in (400, 404, 500, 503, 510) if one.retries.on.holds(status)] == [400, 500, 503]
    assert one.retries.ignore.holds(403) and not one.retries.ignore.holds(412)
    assert [one.retries.backoff_s(n) for n in (1, 2, 3)] == pytest.approx([0.01, 0.06, 0.36])
