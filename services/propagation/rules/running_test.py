"""Rules at work: what is called, how often and with which chain; what is told of failures and of garbage."""

import json

from services.propagation.rules.testing.site import RID, URI, case, event

SIMPLE = {
    "topic": "simple_test_rule",
    "match": {"meta": {"uri": URI}, "message": "test"},
    "retry_limit": 2,
    "retry_delay": 10,
    "retry_on": {"status": ["50x", 400]},
    "ignore": {"status": [403, 412]},
    "exec": {
        "method": "post",
        "uri": "http://127.0.0.1:PORT/",
        "headers": {"test_header_name": "test_header_value", "content-type": "application/json"},
        "body": {
            "test_field_name": "test_field_value",
            "derived_field": "{{message.message}}",
            "random_field": "{{message.random}}",
        },
    },
}
FIRST = f"req:{RID},simple_test_rule:{URI}"
AGAIN = f",changeprop.retry.simple_test_rule:{URI}"


@case
async def test_s01_one_call_for_the_event_that_matches(site):
    await site.put({"simple_test_rule": SIMPLE})
    for message in (event(message="this_will_not_match", random="r"), event(message="test", random="r"), {}):
        await site.topics.put("simple_test_rule", message)
    await site.idle()
    ((method, path, headers, body),) = site.stub.calls
    assert (method, path) == ("POST", "/")
    assert json.loads(body) == {"test_field_name": "test_field_value", "derived_field": "test", "random_field": "r"}
    assert headers["x-triggered-by"] == FIRST and headers["x-request-id"] == RID
    assert headers["test_header_name"] == "test_header_value" and headers["content-type"] == "application/json"
    assert headers["user-agent"]


@case
async def test_s02_a_failure_is_tried_again(site):
    await site.put({"simple_test_rule": SIMPLE})
    site.stub.answers = [500, 200]
    await site.topics.put("simple_test_rule", event(message="test"))
    await site.idle()
    assert site.stub.chains == [FIRST, FIRST + AGAIN]
    assert not site.letters()


@case
async def test_s03_no_more_often_than_the_limit_says(site):
    await site.put({"simple_test_rule": SIMPLE})
    site.stub.answers = [500] * 10
    await site.topics.put("simple_test_rule", event(message="test"))
    await site.idle()
    assert site.stub.chains == [FIRST, FIRST + AGAIN, FIRST + 2 * AGAIN]
    (letter,) = site.letters("simple_test_rule")
    assert (letter.reason, letter.attempts, letter.position) == ("HTTP_500", 3, 1)
    assert letter.event["message"] == "test" and letter.resource == URI


@case
async def test_s04_a_retry_is_told(site):
    await site.put({"simple_test_rule": SIMPLE})
    site.stub.answers = [500]
    await site.topics.put("simple_test_rule", event(message="test"))
    await site.idle()
    ((topic, told),) = site.topics.published
    assert topic == "changeprop.retry.simple_test_rule" == told["meta"]["stream"]
    assert told["$schema"] == "/change-prop/retry/1.0.0" and told["original_event"]["message"] == "test"
    assert told["triggered_by"] == FIRST and told["retries_left"] == 1 and told["error_status"] == 500
    assert told["emitter_id"] == "changeprop" and told["meta"]["uri"] == URI
    assert set(told["meta"]) == {"stream", "uri", "request_id", "id", "dt", "domain"}
    assert all(isinstance(value, str) and value for value in told["meta"].values())


@case
async def test_s05_other_failures_are_not_tried_again(site):
    await site.put({"simple_test_rule": SIMPLE})
    site.stub.answers = [404]
    await site.topics.put("simple_test_rule", event(message="test"))
    await site.idle()
    assert len(site.stub.calls) == 1
    assert [letter.reason for letter in site.letters()] == ["HTTP_404"]
    site.stub.answers = [412]
    await site.topics.put("simple_test_rule", event(message="test"))
    await site.idle()
    assert len(site.stub.calls) == 2 and len(site.letters()) == 1, "what is ignored is done"


@case
async def test_s06_redirects_are_not_followed(site):
    await site.put({"simple_test_rule": SIMPLE})
    site.stub.answers = [301]
    await site.topics.put("simple_test_rule", event(message="test"))
    await site.idle()
    assert [path for _, path, _, _ in site.stub.calls] == ["/"]


@case
async def test_s07_garbage_does_not_stop_what_follows(site):
    await site.put({"simple_test_rule": SIMPLE})
    for message in (b"not a json message", b'"text"', b"[1]", b"\xff\x00", event(message="test")):
        await site.topics.put("simple_test_rule", message)
    await site.idle()
    assert site.stub.chains == [FIRST]


@case
async def test_s08_a_rule_publishes_for_another_rule(site):
    body = {
        "meta": {"stream": "{{message.produce_to_topic}}", "uri": "{{message.meta.uri}}"},
        "message": "test",
        "triggered_by": "{{message.meta.stream}}:{{message.meta.uri}}",
    }
    producing = {
        "topic": "kafka_producing_rule",
        "exec": {"method": "post", "uri": "/sys/queue/events", "body": [body, body]},
    }
    await site.put({"simple_test_rule": SIMPLE, "kafka_producing_rule": producing})
    await site.topics.put(
        "kafka_producing_rule", event("kafka_producing_rule", produce_to_topic="simple_test_rule", message="test")
    )
    await site.until(lambda: len(site.stub.calls) == 2)
    await site.idle()
    assert site.stub.chains == [f"kafka_producing_rule:{URI},simple_test_rule:{URI}"] * 2


@case
async def test_s09_garbage_is_told(site):
    await site.put({"simple_test_rule": SIMPLE})
    await site.topics.put("simple_test_rule", b"not a json message")
    await site.idle()
    ((topic, told),) = site.topics.published
    assert topic == "changeprop.error" == told["meta"]["stream"]
    assert told["$schema"] == "/error/0.0.3" and told["raw_event"] == "not a json message"
    assert told["emitter_id"] == "changeprop" and told["message"]
    assert not site.stub.calls


@case
async def test_s10_a_sample_is_stable(site):
    sampled = {
        "topic": "sample_test_rule",
        "sample": {"rate": 0.5, "hash_template": "{{message.meta.domain}}-{{message.page_title}}"},
        "exec": {"uri": "http://127.0.0.1:PORT/{{message.meta.domain}}/{{message.page_title}}"},
    }
    await site.put({"sampled": sampled})
    for _ in range(3):
        for title in ("N0ryO6Lrp", "rpiwQuPlA"):
            await site.topics.put("sample_test_rule", event("sample_test_rule", page_title=title))
    await site.idle()
    assert [path for _, path, _, _ in site.stub.calls] == ["/en.wikipedia.org/N0ryO6Lrp"] * 3


LISTED = {
    "topics": ["simple_test_rule", "simple_test_rule2", "simple_test_rule3"],
    "exclude_topics": ["simple_test_rule3"],
    "exec": {"method": "post", "uri": "http://127.0.0.1:PORT/", "body": {"topic": "{{message.meta.stream}}"}},
}


@case
async def test_s11_each_topic_of_a_list_counts(site):
    await site.put({"array_rule": LISTED})
    for topic in ("simple_test_rule", "simple_test_rule2"):
        await site.topics.put(topic, event(topic))
    await site.idle()
    assert sorted(json.loads(body)["topic"] for _, _, _, body in site.stub.calls) == [
        "simple_test_rule",
        "simple_test_rule2",
    ]


@case
async def test_s12_excluded_topics_do_not_count(site):
    await site.put({"array_rule": LISTED})
    await site.topics.put("simple_test_rule3", event("simple_test_rule3"))
    await site.idle()
    assert not site.stub.calls
