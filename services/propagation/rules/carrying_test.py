"""CloudEvents in the requests of rules: in both modes, over the wire, and what cannot be one is refused."""

import json
from urllib.parse import unquote

import pytest

from libs.config.config import ConfigError
from services.propagation.rules.parsing import read_rules
from services.propagation.rules.testing.site import URI, case, event


def carrying(headers=None, body=None, **attributes):
    request = {
        "uri": "http://127.0.0.1:PORT/in",
        "cloudevent": {"type": "page.changed", "source": "https://wiki.example/", **attributes},
    }
    request |= {"headers": headers} if headers else {}
    request |= {"body": body} if body is not None else {}
    return {"topic": "simple_test_rule", "retry_delay": 10, "exec": request}


@case
async def test_binary_mode(site):
    rule = carrying(
        body={"title": "{{message.title}}"}, subject="{{message.title}}", extra="{{default(message.x, '')}}"
    )
    await site.put({"r": rule})
    site.stub.answers = [500]
    await site.topics.put("simple_test_rule", event(title='a "b" ü%'))
    await site.idle()
    (first, again) = site.stub.calls
    assert first[:2] == ("POST", "/in") and first[3] == again[3] and json.loads(first[3]) == {"title": 'a "b" ü%'}
    sent = {name: value for name, value in first[2].items() if name.startswith("ce-")}
    assert sent == {name: value for name, value in again[2].items() if name.startswith("ce-")}, "retries are one event"
    assert {name: unquote(value) for name, value in sent.items()} == {
        "ce-specversion": "1.0",
        "ce-id": event()["meta"]["id"],
        "ce-time": "2026-11-22T10:00:00Z",
        "ce-type": "page.changed",
        "ce-source": "https://wiki.example/",
        "ce-subject": 'a "b" ü%',
    }
    assert first[2]["content-type"] == "application/json" and sent["ce-subject"].isascii()


@case
async def test_structured_mode_and_data_that_is_text(site):
    structured = carrying({"content-type": "application/cloudevents+json"}, {"n": 1}, id="own")
    text = carrying(body="plain {{message.title}}", datacontenttype="text/plain")
    await site.put({"r": structured, "s": text, "t": carrying()})
    await site.topics.put("simple_test_rule", event(title="x"))
    await site.idle()
    assert len(site.stub.calls) == 3
    bodies = {headers.get("content-type"): (headers, body) for _, _, headers, body in site.stub.calls}
    told = json.loads(bodies["application/cloudevents+json"][1])
    assert (told["id"], told["data"], told["specversion"], told["datacontenttype"]) == (
        "own",
        {"n": 1},
        "1.0",
        "application/json",
    )
    assert "ce-id" not in bodies["application/cloudevents+json"][0]
    assert bodies["text/plain"][1] == "plain x" and "ce-datacontenttype" not in bodies["text/plain"][0]
    assert bodies[None][1] == "" and bodies[None][0]["ce-type"] == "page.changed"


@case
async def test_an_event_without_what_is_needed_is_a_dead_letter(site):
    await site.put({"r": carrying(type="{{default(message.kind, '')}}"), "s": carrying(subject="{{message.nothing}}")})
    await site.topics.put("simple_test_rule", event(uri=URI))
    await site.until(lambda: len(site.letters()) == 2)
    assert {(one.rule, one.reason) for one in site.letters()} == {("r", "TEMPLATE_FAILED"), ("s", "TEMPLATE_FAILED")}
    assert not site.stub.calls


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"cloudevent": {"type": "a"}}, "source: is missing"),
        ({"cloudevent": {"type": "a", "source": "b", "Subject": "c"}}, "no attribute"),
        ({"cloudevent": {"type": "a", "source": "b", "data": "c"}}, "the body is the data"),
        ({"cloudevent": {"type": "a", "source": "b", "specversion": "1.0"}}, "the version is 1.0"),
        ({"cloudevent": "a"}, "a mapping is allowed"),
        ({"uri": "/sys/changes", "body": {"resource": "a"}}, "has no meaning"),
    ],
)
def test_what_is_no_cloudevent_is_refused(changed, says):
    rule = carrying()
    rule["exec"] |= changed
    with pytest.raises(ConfigError, match=says):
        read_rules(json.dumps({"rules": {"r": rule}}), ["simple_test_rule"])
