"""CloudEvents over HTTP into topics, on real sockets, with topics that the test steers."""

import asyncio
import json

import aiohttp
import pytest

from libs.config.config import ConfigError
from libs.kafka.consumer import Record
from libs.kafka.errors import BrokersAway, MessageRefused, TopicMissing
from services.propagation.kafka.cloudevents import event_of
from services.propagation.kafka.listening import Listening
from services.propagation.kafka.receiving import MAX_BATCH
from tools.dev.servers.ports import free_port
from wellspring.config.v1 import propagation_pb2

CREDENTIAL = 32 * "c"
BINARY = {
    "Ce-Specversion": "1.0",
    "ce-id": "e-1",
    "ce-source": "https://cms.example/a",
    "ce-type": "changed",
    "ce-subject": "caf%C3%A9 7",
    "Content-Type": "application/json",
}
PLAIN = {"specversion": "1.0", "id": "e-1", "source": "https://cms.example/a", "type": "changed", "subject": "café 7"}
STRUCTURED = {"Content-Type": "application/cloudevents+json; charset=UTF-8"}
BATCHED = {"Content-Type": "application/cloudevents-batch+json"}


class Topics:
    """Takes messages, or raises `error` for those of the key."""

    def __init__(self):
        self.sent = []
        self.errors = {}
        self.gate = asyncio.Event()
        self.gate.set()

    async def send(self, topic, value, key=None, headers=()):
        await self.gate.wait()
        if key in self.errors:
            raise self.errors[key]
        self.sent.append(Record(topic, 0, len(self.sent), key, value, 0, tuple(headers)))

    def events(self):
        return [event_of(one) for one in self.sent]


def config(**changed):
    address = f"127.0.0.1:{free_port()}"
    http = {"listen": [address], "topics": ["in"], "max_bytes": 10_000, "max_in_flight": 2} | changed
    return propagation_pb2.EventTopics(topics=["in", "other"], http=http)


def receiving(test, **changed):
    async def main():
        topics, given = Topics(), config(**changed)
        listening = await Listening.open(given, topics)
        try:
            async with aiohttp.ClientSession(f"http://{given.http.listen[0]}") as session:

                async def post(body, headers, path="/events/in"):
                    data = body if isinstance(body, bytes) else json.dumps(body).encode()
                    async with session.post(path, data=data, headers=headers) as answer:
                        text = await answer.text()
                        return answer.status, json.loads(text).get("error", "") if text[:1] == "{" else text

                await test(post, topics, listening.receiver)
        finally:
            await listening.close()

    asyncio.run(main())


def test_all_modes_come_as_the_same_event():
    async def test(post, topics, receiver):
        data = {"a": [1, "ü"]}
        assert await post(data, BINARY) == (204, "")
        assert await post(PLAIN | {"data": data}, STRUCTURED) == (204, "")
        assert await post([PLAIN | {"data": data}, PLAIN | {"data": data, "id": "e-2"}], BATCHED) == (204, "")
        assert await post([], BATCHED) == (204, "")
        events = topics.events()
        assert [one["meta"]["id"] for one in events] == ["e-1", "e-1", "e-1", "e-2"] and receiver.taken == 4
        assert all(one["data"] == data and one["meta"]["uri"] == "café 7" for one in events)
        assert {one.key for one in topics.sent} == {"café 7".encode()}
        assert all(
            {**one["cloudevent"], "datacontenttype": ""} == {**events[0]["cloudevent"], "datacontenttype": ""}
            for one in events[:3]
        )

    receiving(test)


def test_bytes_that_are_no_text_are_handed_on_as_they_are():
    async def test(post, topics, receiver):
        assert (await post(b"\xff\x00\x01", BINARY | {"Content-Type": "image/png"}))[0] == 204
        assert topics.sent[0].value == b"\xff\x00\x01" and ("content-type", b"image/png") in topics.sent[0].headers

    receiving(test)


def without(name):
    return {key: value for key, value in BINARY.items() if key.lower() != name}


@pytest.mark.parametrize(
    ("body", "headers", "status", "says"),
    [
        (b"{}", {"Content-Type": "application/json"}, 415, "no CloudEvent"),
        (b"<x/>", {"Content-Type": "application/cloudevents+xml"}, 415, "structured events come as"),
        (b"<x/>", {"Content-Type": "application/cloudevents-batch+avro"}, 415, "batches come as"),
        (b"{}", BINARY | {"Ce-Specversion": "0.3"}, 400, "another version"),
        (b"{}", without("ce-id"), 400, "without id"),
        (b"{}", without("ce-source"), 400, "without source"),
        (b"{}", BINARY | {"Ce-Bad_Name": "x"}, 400, 'attribute "bad_name"'),
        (b"{", BINARY, 400, "no JSON"),
        (b"[1]", STRUCTURED, 400, "no JSON object"),
        (PLAIN | {"data_base64": "*"}, STRUCTURED, 400, "base64"),
        (b"{}", BATCHED, 400, "no list"),
        (b"[", BATCHED, 400, "no JSON"),
        ([PLAIN, PLAIN | {"id": ""}], BATCHED, 400, "[1] is a CloudEvent without id"),
        ([PLAIN, 5], BATCHED, 400, "[1] is a structured CloudEvent and no JSON object"),
        ([0] * (MAX_BATCH + 1), BATCHED, 400, "at most 1,000"),
        (20_000 * b"x", BINARY, 413, "at most 10,000"),
    ],
)
def test_what_is_none_is_refused_and_nothing_of_it_is_taken(body, headers, status, says):
    async def test(post, topics, receiver):
        found, why = await post(body, headers)
        assert (found, receiver.refused) == (status, 1) and says in why and not topics.sent

    receiving(test)


@pytest.mark.parametrize(
    ("error", "status"), [(BrokersAway("away"), 503), (TopicMissing("gone"), 503), (MessageRefused("too large"), 413)]
)
def test_what_the_topic_does_not_take_is_not_acknowledged(error, status):
    async def test(post, topics, receiver):
        topics.errors["café 7".encode()] = error
        other = PLAIN | {"subject": "another", "data": 1}
        assert await post([other, PLAIN | {"data": 1}], BATCHED) == (status, error.message)
        assert (len(topics.sent), receiver.taken) == (1, 0)
        topics.errors.clear()
        assert (await post([other, PLAIN | {"data": 1}], BATCHED))[0] == 204

    receiving(test)


def test_only_the_named_topics_only_with_a_credential_and_only_so_many_at_once(tmp_path):
    file = tmp_path / "credentials"
    file.write_text(f"{CREDENTIAL}\n{32 * 'd'}\n")
    file.chmod(0o600)
    shown = {"Authorization": f"Bearer {CREDENTIAL}"}

    async def test(post, topics, receiver):
        assert (await post(b"{}", BINARY))[0] == 401
        assert (await post(b"{}", BINARY | {"Authorization": f"Bearer {32 * 'x'}"}))[0] == 401
        assert (await post(b"{}", BINARY | {"Authorization": f"Basic {CREDENTIAL}"}))[0] == 401
        assert (await post(b"{}", BINARY | shown, "/events/other"))[0] == 404
        assert (await post(b"{}", BINARY | shown, "/"))[0] == 404
        assert not topics.sent
        topics.gate.clear()
        waiting = [asyncio.create_task(post(b"{}", BINARY | shown)) for _ in range(3)]
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        assert [task.result()[0] for task in done] == [503]
        topics.gate.set()
        assert sorted([(await task)[0] for task in waiting]) == [204, 204, 503]

    receiving(test, credential_file=str(file))


def test_what_cannot_be_listened_on_is_named(tmp_path):
    async def refused(**changed):
        with pytest.raises(ConfigError) as caught:
            await Listening.open(config(**changed), Topics())
        return str(caught.value)

    async def main():
        assert "none of events.topics" in await refused(topics=["x"])
        assert "cannot be read" in await refused(credential_file=str(tmp_path / "nowhere"))
        for content, mode, says in (
            (CREDENTIAL, 0o644, "may be read by others"),
            ("short", 0o600, "something else"),
            (40 * " ", 0o600, "something else"),
        ):
            file = tmp_path / says.replace(" ", "-")
            file.write_text(content)
            file.chmod(mode)
            assert says in await refused(credential_file=str(file))
        taken = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        address = f"127.0.0.1:{taken.sockets[0].getsockname()[1]}"
        assert f"{address} is in use" in await refused(listen=[address])
        taken.close()

    asyncio.run(main())
