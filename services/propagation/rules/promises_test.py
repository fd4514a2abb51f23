"""What a kill, a slow event, other rules and bad targets leave behind: nothing lost, nothing out of its order."""

import asyncio
import json

import pytest

from services.propagation.domain.change import Cause, Change
from services.propagation.domain.errors import RevisionMismatch
from services.propagation.rules.memory import MemoryTopics
from services.propagation.rules.testing.site import RID, TOPICS, Site, Stub, call_of, case, event, lives
from services.propagation.rules.topics import CHANGED, COMPLETED
from services.propagation.store.memory_state import MemoryDisk


def test_n02_killed_between_the_call_and_its_cursor_it_is_called_again():
    async def main():
        topics, stub, hang = MemoryTopics(TOPICS), Stub(), asyncio.Event()
        stub.gate = lambda path: hang.wait()
        async with lives(topics=topics, stub=stub) as opened:
            site = await opened()
            await site.put({"r": call_of("/{message.n}")})
            await topics.put("simple_test_rule", event(n=1))
            await site.until(lambda: stub.calls)
            site = await opened()
            await site.until(lambda: len(stub.calls) == 2)
            hang.set()
            await site.idle()
            assert site.stub.paths == ["/1", "/1"] and not site.letters()
            site = await opened()
            await site.idle()
            assert len(stub.calls) == 2, "done is done"

    asyncio.run(main())


def test_n03_the_cursor_does_not_pass_a_slow_event():
    async def main():
        topics, stub, hang = MemoryTopics(TOPICS), Stub(), asyncio.Event()

        async def gate(path):
            if path == "/3":
                await hang.wait()

        stub.gate = gate
        async with lives(topics=topics, stub=stub) as opened:
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
            assert sorted(site.stub.paths) == sorted([*(f"/{n}" for n in range(1, 11)), "/3"]), (
                "only the slow one again"
            )
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
    done = [int(path[1:]) for path in site.stub.paths][1:]
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
    assert site.stub.paths == ["/a", "/b", "/b"]


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
        timeout = "2s" if answer is None else "60s"
        await site.put({"r": call_of("/{message.n}", retry_limit=0, timeout=timeout)})
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
    assert site.stub.paths == ["/x"] and asyncio.get_running_loop().time() - began >= 0.35


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
    await site.until(lambda: "/old/0" in site.stub.paths)
    await site.put({"r": call_of("/new/{message.n}")})
    assert site.rules.book.revision == 2
    for n in range(3, 5):
        await site.topics.put("simple_test_rule", event(uri=f"u/{n}", n=n))
    await site.until(lambda: "/new/4" in site.stub.paths)
    assert "/old/1" not in site.stub.paths, "the old rule has one slot, and that is taken"
    hold.set()
    await site.idle()
    assert sorted(site.stub.paths) == sorted(
        [*(f"/old/{n}" for n in range(3)), *(f"/gone/{n}" for n in range(3)), "/new/3", "/new/4"]
    )
    await site.until(lambda: len(site.rules.state.revisions()) == 1)
    assert list(site.rules.state.cursors()) == [("r", "simple_test_rule")]


def test_n30_revisions_of_rules_outlive_the_process():
    async def main():
        topics, stub, hang = MemoryTopics(TOPICS), Stub(), asyncio.Event()
        stub.gate = lambda path: hang.wait()
        async with lives(topics=topics, stub=stub) as opened:
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
            assert sorted(site.stub.paths) == ["/new/2", "/old/1"]

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
