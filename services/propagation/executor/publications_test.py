"""Publications of a view: what goes to a topic, in which order, and what becomes of pages when the brokers do not take
it."""

import asyncio
import json

import pytest

from libs.kafka.errors import BrokersAway, MessageRefused, TopicMissing
from services.propagation.executor.pages import Item, RenderFailed, Withheld
from services.propagation.executor.publications import ViewPublications
from services.propagation.relay.purges import purge_of
from services.propagation.rules.schemas import mismatch
from services.propagation.targets.breaker import CONSECUTIVE
from services.propagation.targets.settings import TargetInvalid
from services.propagation.targets.targets import Targets
from services.propagation.views.parsing import Defaults, mistakes_in
from wellspring.propagation.v1 import work_pb2

VERSION = (7).to_bytes(16, "big")
VIEW = work_pb2.View(
    name="html",
    resource_prefixes=["w/page/"],
    publishes=[
        work_pb2.Publish(topic="purges", uris=["https://w.example/wiki/{path}", "/api/{name}"], tags=["purge"]),
        work_pb2.Publish(topic="tags", xkeys=["page-{name}", "all"]),
    ],
)


class Topics:
    """Takes messages into `sent`; `refuses` raises for those of a key."""

    def __init__(self):
        self.sent = []
        self.refuses = {}

    async def send(self, topic, value, key=None):
        await asyncio.sleep(0)
        error = self.refuses.get(key) or self.refuses.get(topic)
        if error is not None:
            raise error
        self.sent.append((topic, key.decode(), json.loads(value)))


def playing(test):
    async def main():
        topics = Topics()
        targets = Targets(messages=topics)
        try:
            await test(topics, ViewPublications(VIEW, targets, lambda: 1_800_000_000_000_000_000))
        finally:
            await targets.close()

    asyncio.run(main())


def items(*names):
    return [Item(at, f"w/page/{name}", bytes(16)) for at, name in enumerate(names)]


def test_a_message_for_each_address_and_one_for_the_tags():
    async def test(topics, publications):
        assert await publications.make(items("Ä b", "B/c"), VERSION, "edit1") == {}
        assert [(topic, key) for topic, key, _ in topics.sent] == [
            ("purges", "https://w.example/wiki/%C3%84%20b"),
            ("purges", "/api/%C3%84%20b"),
            ("purges", "https://w.example/wiki/B/c"),
            ("purges", "/api/B%2Fc"),
            ("tags", "/view/html/w%2Fpage%2F%C3%84%20b"),
            ("tags", "/view/html/w%2Fpage%2FB%2Fc"),
        ]
        first = topics.sent[0][2]
        assert first["meta"] == {
            "stream": "purges",
            "uri": "https://w.example/wiki/%C3%84%20b",
            "id": first["meta"]["id"],
            "dt": "2027-01-15T08:00:00.000Z",
            "domain": "w.example",
            "request_id": "edit1",
        }
        assert first["tags"] == ["purge"] and first["min_version"] == VERSION.hex()
        assert not any(mismatch(event, "resource_change") for _, _, event in topics.sent)
        purges = [purge_of(json.dumps(event).encode()) for _, _, event in topics.sent]
        assert [(one.path, one.tags, one.min_version) for one in purges[:1] + purges[4:5]] == [
            ("/wiki/%C3%84%20b", (), VERSION),
            ("/", ("page-%C3%84%20b", "all"), VERSION),
        ]
        topics.sent.clear()
        await publications.make(items("Ä b"), VERSION, "edit1")
        assert topics.sent[0][2]["meta"]["id"] == first["meta"]["id"], "the same message again"
        await publications.make(items("Ä b"), (8).to_bytes(16, "big"), "edit2")
        assert topics.sent[-2][2]["meta"]["id"] != first["meta"]["id"]

    playing(test)


@pytest.mark.parametrize(
    ("error", "reason", "retryable"),
    [
        (BrokersAway("away"), "PUBLISH_KAFKA_UNAVAILABLE", True),
        (TopicMissing("no such topic"), "PUBLISH_TOPIC_MISSING", True),
        (MessageRefused("too large"), "PUBLISH_MESSAGE_REFUSED", False),
    ],
)
def test_a_message_that_is_not_taken_fails_its_page_alone_and_ends_its_way(error, reason, retryable):
    async def test(topics, publications):
        topics.refuses[b"/api/B"] = error
        found = await publications.make(items("A", "B", "C"), VERSION, "")
        assert list(found) == [1] and isinstance(found[1], RenderFailed)
        assert (found[1].reason, found[1].retryable) == (reason, retryable)
        tagged = [key for topic, key, _ in topics.sent if topic == "tags"]
        assert tagged == ["/view/html/w%2Fpage%2FA", "/view/html/w%2Fpage%2FC"]

    playing(test)


def test_a_topic_that_only_fails_is_left_alone_and_the_other_is_not():
    async def test(topics, publications):
        topics.refuses["purges"] = BrokersAway("away")
        for _ in range(CONSECUTIVE):
            found = await publications.make(items("A"), VERSION, "")
            assert isinstance(found[0], RenderFailed)
        assert [target.room() for target in publications.targets] == [0, None]
        found = await publications.make(items("A", "B"), VERSION, "")
        assert list(found) == [0, 1] and all(isinstance(one, Withheld) and one.retry_after_s for one in found.values())

    playing(test)


def test_what_is_given_up_half_way_leaves_nothing_behind():
    async def test(topics, publications):
        begun = asyncio.Event()

        async def never(*_):
            begun.set()
            await asyncio.get_running_loop().create_future()

        topics.send = never
        task = asyncio.create_task(publications.make(items("A"), VERSION, ""))
        await begun.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled() and not publications.targets[0].running

    playing(test)


def test_a_view_that_publishes_needs_brokers():
    async def main():
        with pytest.raises(TargetInvalid, match="the topic purges: no brokers are configured"):
            ViewPublications(VIEW, Targets())

    asyncio.run(main())


FILE = """
views:
  - name: html
    resource_prefixes: [w/page/]
    render: {entry_point: {function: "m:f"}}
    publishes:
      - topic: purges
        uris: ["https://w.example/wiki/{path}"]
        tags: [purge]
"""


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("purges", "a b", 7, "no topic"),
        ("purges", "..", 7, "no topic"),
        ("uris: ", "tags: ", 9, "twice"),
        ('["https://w.example/wiki/{path}"]', "[]", 7, "publishes nothing"),
        ("{path}", "{title}", 8, "{path} are allowed"),
        ("{path}", "{path} x", 8, "no address"),
        ("w.example", "{name}", 8, "no address"),
        ("https:", "ftp:", 8, "no address"),
        ("[purge]", "[purge, purge]", 9, "twice"),
        ("tags: [purge]", 'xkeys: ["a b"]', 9, "no tag"),
    ],
)
def test_what_cannot_be_published_is_refused_with_its_line(old, new, line, says):
    assert FILE.count(old) == 1
    assert not mistakes_in(FILE, Defaults())[1]
    mistakes = mistakes_in(FILE.replace(old, new), Defaults())[1]
    assert any(one.line == line and says in str(one) for one in mistakes), [str(one) for one in mistakes]
