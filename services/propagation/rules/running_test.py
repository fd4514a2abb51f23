"""Rules at work: what is called, how often, with which chain; and what a crash, a failure or garbage leaves behind."""

import asyncio
import json
from contextlib import asynccontextmanager
from random import Random

import pytest

from libs.clock.clock import SystemClock
from services.propagation.domain.change import Cause, Change
from services.propagation.domain.engine import Engine
from services.propagation.domain.errors import RevisionMismatch
from services.propagation.domain.shard import Settings
from services.propagation.domain.views import View
from services.propagation.rules.caller import TargetsCaller
from services.propagation.rules.memory import MemoryTopics
from services.propagation.rules.rules import Rules
from services.propagation.rules.topics import CHANGED, COMPLETED
from services.propagation.store.memory import MemoryStore
from services.propagation.store.memory_state import MemoryDisk
from services.propagation.targets.targets import Targets

RID = "b7a8a2f2-3b3e-4a34-9a0e-6d6c6c0a3a11"
URI = "https://en.wikipedia.org/wiki/SamplePage"
TOPICS = ("simple_test_rule", "simple_test_rule2", "simple_test_rule3", "kafka_producing_rule", "sample_test_rule")


class Stub:
    """An HTTP server that keeps what it was asked, and answers as it is told, 200 after that."""

    def __init__(self):
        self.calls = []
        self.answers = []
        self.gate = None
        self.running = 0
        self.most = 0

    async def serve(self, reader, writer):
        try:
            while line := await reader.readline():
                method, path, _ = line.decode().split()
                headers = {}
                while (row := await reader.readline()) not in (b"\r\n", b""):
                    name, _, value = row.decode().partition(":")
                    headers[name.lower()] = value.strip()
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                self.calls.append((method, path, headers, body.decode()))
                status = self.answers.pop(0) if self.answers else 200
                self.running += 1
                self.most = max(self.most, self.running)
                if self.gate is not None:
                    await self.gate(path)
                self.running -= 1
                more = "Location: /elsewhere\r\n" if status == 301 else ""
                writer.write(f"HTTP/1.1 {status} x\r\n{more}Content-Length: 2\r\n\r\n{{}}".encode())
        finally:
            writer.close()

    @property
    def chains(self):
        return [headers["x-triggered-by"] for _, _, headers, _ in self.calls]


class Site:
    """An engine with rules, over a disk that survives it."""

    def __init__(self, disk, topics, stub, port):
        self.disk, self.topics, self.stub, self.port = disk, topics, stub, port
        view = View("html", ("w/page/",))
        self.engine = Engine(MemoryStore(disk), SystemClock(), Random(1), Settings(), [view], 1)
        self.rules = Rules(self.engine, TargetsCaller(Targets()), SystemClock(), Random(1), [topics], topics)

    async def put(self, rules):
        text = json.dumps({"service": "changeprop", "rules": rules}).replace("PORT", str(self.port))
        await self.rules.put(text)

    async def idle(self, seconds=15.0):
        """Until everything is done."""
        await self.until(lambda: self.rules.runner.idle, seconds)

    async def until(self, condition, seconds=15.0):
        end = asyncio.get_running_loop().time() + seconds
        while not condition():
            assert asyncio.get_running_loop().time() < end, ("waited too long", self.stub.calls)
            await asyncio.sleep(0.02)

    def letters(self, rule=""):
        return self.rules.query(rule, "", "", "", 100, b"")[0]


@asynccontextmanager
async def running(disk, topics, stub):
    """The site while its rules run; leaving it is a kill: nothing is finished."""
    server = await asyncio.start_server(stub.serve, "127.0.0.1", 0)
    site = Site(disk, topics, stub, server.sockets[0].getsockname()[1])
    task = asyncio.create_task(site.rules.run())
    try:
        yield site
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        server.close()


def case(test):
    """Runs a test with a site of its own."""

    def run():
        async def main():
            topics = MemoryTopics(TOPICS)
            async with running(MemoryDisk(), topics, Stub()) as site:
                await test(site)

        asyncio.run(main())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def event(stream="simple_test_rule", uri=URI, **more):
    meta = {
        "stream": stream,
        "uri": uri,
        "request_id": RID,
        "id": "1c7c8f5e-0000-1000-8000-000000000000",
        "dt": "2026-11-22T10:00:00Z",
        "domain": "en.wikipedia.org",
    }
    return {"$schema": "event/1.0.0", "meta": meta, **more}


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


def call_of(path, **more):
    return {"topic": "simple_test_rule", "exec": {"uri": f"http://127.0.0.1:PORT{path}"}, "retry_delay": 10} | more


def paths(site):
    return [path for _, path, _, _ in site.stub.calls]


@asynccontextmanager
async def lives(disk, topics, stub):
    """Opens site after site on the same disk and port; what was not durable is lost between them."""
    server = await asyncio.start_server(stub.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    tasks = []

    async def kill():
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def opened():
        await kill()
        disk.crash()
        site = Site(disk, topics, stub, port)
        tasks.append(asyncio.create_task(site.rules.run()))
        return site

    try:
        yield opened
    finally:
        await kill()
        server.close()


def test_n02_killed_between_the_call_and_its_cursor_it_is_called_again():
    async def main():
        disk, topics, stub = MemoryDisk(), MemoryTopics(TOPICS), Stub()
        hang = asyncio.Event()
        stub.gate = lambda path: hang.wait()
        async with lives(disk, topics, stub) as opened:
            site = await opened()
            await site.put({"r": call_of("/{message.n}")})
            await topics.put("simple_test_rule", event(n=1))
            await site.until(lambda: stub.calls)
            site = await opened()
            await site.until(lambda: len(stub.calls) == 2)
            hang.set()
            await site.idle()
            assert paths(site) == ["/1", "/1"] and not site.letters()
            site = await opened()
            await site.idle()
            assert len(stub.calls) == 2, "done is done"

    asyncio.run(main())


def test_n03_the_cursor_does_not_pass_a_slow_event():
    async def main():
        disk, topics, stub = MemoryDisk(), MemoryTopics(TOPICS), Stub()
        hang = asyncio.Event()

        async def gate(path):
            if path == "/3":
                await hang.wait()

        stub.gate = gate
        async with lives(disk, topics, stub) as opened:
            site = await opened()
            await site.put({"r": call_of("/{message.n}")})
            for n in range(1, 11):
                await topics.put("simple_test_rule", event(uri=f"u/{n}", n=n))
            await site.until(lambda: len(stub.calls) == 10)
            kept = site.rules.state.cursor
            await site.until(lambda: (at := kept("r", "simple_test_rule")) and len(at.done) == 7)
            assert kept("r", "simple_test_rule").at == 2
            site = await opened()
            hang.set()
            await site.idle()
            assert sorted(paths(site)) == sorted([*(f"/{n}" for n in range(1, 11)), "/3"]), "only the slow one again"
            assert site.rules.state.cursor("r", "simple_test_rule").at == 10

    asyncio.run(main())


@case
async def test_events_of_one_key_stay_in_order_and_of_others_run_side_by_side(site):
    await site.put({"r": call_of("/{message.n}", concurrency=4)})
    site.stub.answers = [503]  # the first of a key fails once: the others of that key wait for it

    async def gate(path):
        await asyncio.sleep(0.01)

    site.stub.gate = gate
    for n in range(40):
        await site.topics.put("simple_test_rule", event(uri=f"u/{n % 8}", n=n))
    await site.idle()
    done = [int(path[1:]) for path in paths(site)][1:]
    for key in range(8):
        of_key = [n for n in done if n % 8 == key]
        assert of_key == sorted(of_key)
    assert sorted(done) == list(range(40)) or sorted(set(done)) == list(range(40))
    assert 1 < site.stub.most <= 4


@case
async def test_requests_of_a_sequence_that_were_answered_are_not_made_again(site):
    two = [{"uri": "http://127.0.0.1:PORT/a"}, {"uri": "http://127.0.0.1:PORT/b"}]
    await site.put({"r": call_of("", exec=two)})
    site.stub.answers = [200, 503, 200]
    await site.topics.put("simple_test_rule", event())
    await site.idle()
    assert paths(site) == ["/a", "/b", "/b"]


@case
async def test_dead_letters_are_tried_again_once_and_given_up_by_name(site):
    await site.put({"r": call_of("/{message.n}", retry_limit=0)})
    site.stub.answers = [500] * 3
    for n in range(3):
        await site.topics.put("simple_test_rule", event(uri=f"u/{n}", n=n))
    await site.idle()
    assert site.rules.count("r") == 3 and site.rules.count("other") == 0
    first, after = site.rules.query("r", "", "", "", 2, b"")
    rest, end = site.rules.query("r", "", "", "", 2, after)
    assert [one.position for one in [*first, *rest]] == [1, 2, 3] and end == b""
    site.stub.answers = [500]
    again = site.rules.query("r", "u/0", "", "", 10, b"")[0]
    assert site.rules.replay(again)[0] == 1
    marked = site.rules.query("r", "u/0", "", "", 10, b"")[0]
    assert site.rules.replay(marked)[0] == 0, "it is being tried already"
    await site.idle()
    (letter,) = site.rules.query("r", "u/0", "", "", 10, b"")[0]
    assert letter.attempts == 2 and not letter.replay
    assert site.rules.replay(site.letters())[0] == 3
    await site.idle()
    assert not site.letters() and len(site.stub.calls) == 7
    site.stub.answers = [500]
    await site.topics.put("simple_test_rule", event(n=9))
    await site.idle()
    count, durable = site.rules.discard(site.letters())
    await durable
    assert count == 1 and not site.letters()


@case
async def test_what_an_event_lacks_is_a_dead_letter_and_no_call(site):
    await site.put({"r": call_of("/{message.n}")})
    await site.topics.put("simple_test_rule", event())
    await site.idle()
    assert not site.stub.calls
    assert [letter.reason for letter in site.letters()] == ["TEMPLATE_FAILED"]


@case
async def test_a_target_that_is_away_is_a_dead_letter_after_the_last_attempt(site):
    await site.put({"r": call_of("", exec={"uri": "http://127.0.0.1:9/"}, retry_limit=1)})
    await site.topics.put("simple_test_rule", event())
    await site.idle()
    ((reason, attempts),) = [(letter.reason, letter.attempts) for letter in site.letters()]
    assert (reason, attempts) == ("UNANSWERED", 2)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "UNANSWERED"),
        (b"garbage\r\n\r\n", "UNANSWERED"),
        (b"HTTP/1.1 200 x\r\nContent-Length: 99999999999\r\n\r\n" + bytes(2 << 20), ""),
        (b"HTTP/1.1 500 x\r\nContent-Length: 99999999999\r\n\r\n" + bytes(2 << 20), "HTTP_500"),
        (None, "UNANSWERED"),
    ],
    ids=["nothing", "garbage", "without end", "without end, refused", "never"],
)
def test_a_target_that_answers_badly_harms_its_own_event_only(answer, reason):
    async def serve(reader, writer):
        try:
            line = await reader.readuntil(b"\r\n\r\n")
            if b"/good" in line:
                writer.write(b"HTTP/1.1 200 x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            elif answer is None:
                await asyncio.sleep(30)
            else:
                writer.write(answer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    async def main():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        disk, topics = MemoryDisk(), MemoryTopics(TOPICS)
        site = Site(disk, topics, Stub(), server.sockets[0].getsockname()[1])
        task = asyncio.create_task(site.rules.run())
        await site.put({"r": call_of("/{message.n}", retry_limit=0, timeout="300ms")})
        for n in ("good", "bad", "good"):
            await topics.put("simple_test_rule", event(uri=n, n=n))
        await site.idle()
        assert [letter.reason for letter in site.letters()] == ([reason] if reason else [])
        assert site.rules.runner.counters["r"].done == (2 if reason else 3)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        server.close()

    asyncio.run(main())


@case
async def test_a_delay_is_waited_for(site):
    await site.put({"r": call_of("/x", delay="400ms")})
    began = asyncio.get_running_loop().time()
    await site.topics.put("simple_test_rule", event())
    await site.idle()
    assert paths(site) == ["/x"] and asyncio.get_running_loop().time() - began >= 0.35


@case
async def test_n30_an_event_runs_under_the_rules_that_it_was_accepted_under(site):
    hold = asyncio.Event()

    async def gate(path):
        if path == "/old/0":
            await hold.wait()

    site.stub.gate = gate
    await site.put({"r": call_of("/old/{message.n}", concurrency=1), "gone": call_of("/gone/{message.n}")})
    for n in range(3):
        await site.topics.put("simple_test_rule", event(uri=f"u/{n}", n=n))
    await site.until(lambda: "/old/0" in paths(site))
    await site.put({"r": call_of("/new/{message.n}")})
    assert site.rules.book.revision == 2
    for n in range(3, 5):
        await site.topics.put("simple_test_rule", event(uri=f"u/{n}", n=n))
    await site.until(lambda: "/new/4" in paths(site))
    assert "/old/1" not in paths(site), "the old rule has one slot, and that is taken"
    hold.set()
    await site.idle()
    assert sorted(paths(site)) == sorted(
        [*(f"/old/{n}" for n in range(3)), *(f"/gone/{n}" for n in range(3)), "/new/3", "/new/4"]
    )
    await site.until(lambda: len(site.rules.state.revisions()) == 1)
    assert list(site.rules.state.cursors()) == [("r", "simple_test_rule")]


def test_n30_revisions_of_rules_outlive_the_process():
    async def main():
        disk, topics, stub = MemoryDisk(), MemoryTopics(TOPICS), Stub()
        hang = asyncio.Event()
        stub.gate = lambda path: hang.wait()
        async with lives(disk, topics, stub) as opened:
            site = await opened()
            await site.put({"r": call_of("/old/{message.n}")})
            await topics.put("simple_test_rule", event(uri="u/1", n=1))
            await site.put({"r": call_of("/new/{message.n}")})
            await topics.put("simple_test_rule", event(uri="u/2", n=2))
            await site.until(lambda: len(stub.calls) == 2)
            site = await opened()
            assert site.rules.book.revision == 2 and len(site.rules.state.revisions()) == 2
            stub.calls.clear()
            hang.set()
            await site.idle()
            assert sorted(paths(site)) == ["/new/2", "/old/1"]

    asyncio.run(main())


@case
async def test_put_refuses_an_older_revision_and_keeps_what_is_in_force(site):
    await site.put({"r": call_of("/x")})
    with pytest.raises(RevisionMismatch):
        site.rules.put("rules: {}", if_revision=7)
    assert site.rules.validate("rules: {r: {}}") and site.rules.book.revision == 1


def change(n, **more):
    given = {"id": f"c{n}", "resource": f"w/page/{n}", "aspects": ("content",), "version": n.to_bytes(16, "big")}
    return Change(**(given | {"cause": Cause("edit", "me", RID)} | more))


@case
async def test_the_engines_own_log_is_a_source(site):
    body = "{{message}}"
    send = {"method": "post", "uri": "http://127.0.0.1:PORT/", "body": body}
    await site.put(
        {
            "changed": {"topic": CHANGED, "match": {"aspects": ["content"]}, "exec": send},
            "completed": {"topic": COMPLETED, "match": {"state": "DONE"}, "exec": send},
        }
    )
    site.engine.publish(change(1, attributes=(("domain", "en.example"), ("uri", "http://en.example/1"))))
    site.engine.publish(change(2, resource="w/other/2", aspects=("title",)))
    site.engine.publish(change(3, cause=Cause("canary"), attributes=(("source", "x"),)))
    await site.idle()
    await site.until(lambda: len(site.stub.calls) == 2)
    told = {seen["meta"]["stream"]: seen for seen in (json.loads(body) for *_, body in site.stub.calls)}
    changed = told[CHANGED]
    assert changed["resource"] == "w/page/1" and changed["version"] == f"{1:032x}"
    assert changed["meta"]["domain"] == "en.example" and changed["meta"]["uri"] == "http://en.example/1"
    assert changed["meta"]["request_id"] == RID and changed["cause"]["causer"] == "me"
    assert told[COMPLETED]["resource"] == "w/other/2" and told[COMPLETED]["state"] == "DONE"
