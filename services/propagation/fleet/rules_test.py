"""Rules over several shards, run where the first one is led: over its moves no event is lost, and no change is two."""

import asyncio
import json
from contextlib import AsyncExitStack, asynccontextmanager

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from libs.kafka.errors import TopicUnfit
from services.propagation.fleet.rules import RulesSetup
from services.propagation.fleet.shards import SHARD_HEADER
from services.propagation.fleet.testing.executor import VIEWS, Executor, declaration
from services.propagation.fleet.testing.serving import Fleet, serving
from services.propagation.rules.memory import MemoryTopics
from services.propagation.rules.testing.site import Stub, event
from services.propagation.rules.topics import CHANGED, COMPLETED
from services.propagation.simulation.site import Site
from wellspring.propagation.v1 import propagation_admin_pb2 as admin_pb2
from wellspring.propagation.v1 import propagation_pb2 as pb

SHARDS = 3
PATIENT_S = 60
EDITS = "edits"
FIRST = [(SHARD_HEADER, "0")]
CHANGES = {
    "topic": EDITS,
    "exec": {"uri": "/sys/changes", "body": {"resource": "{{message.resource}}", "version": "{{message.version}}"}},
}


class Topics(MemoryTopics):
    """What all engines read, as their source and sink. `unfit` says why it cannot be opened now."""

    gone, failing, unfit = 0, None, ""

    def __init__(self):
        super().__init__((EDITS,))
        self.opened = 0

    @property
    def source(self):
        return self

    sink = source

    async def open(self, _engine):
        if self.unfit:
            raise TopicUnfit(self.unfit)
        self.opened += 1
        return self

    async def run(self):
        await asyncio.Event().wait()

    async def close(self):
        self.opened -= 1

    async def edit(self, number):
        """An event of an edit, and the id of the change that is made of it."""
        told = event(EDITS, f"u/{number}", resource=source(number), version=number + 1)
        told["meta"]["id"] = f"edit-{number}"
        await self.put(EDITS, told)
        return f"edits/edit-{number}"


def source(number):
    return f"w/source/{number}"


@asynccontextmanager
async def site_of(path="", topics=None):
    """(two engines, of which the first one leads all shards but the last, the topics, a stub that rules call)."""
    fleet, topics, stub = Fleet(SHARDS), topics or Topics(), Stub()
    setup = RulesSetup(topics=topics.open, file=path)
    async with AsyncExitStack() as stack:
        server = await asyncio.start_server(stub.serve, "127.0.0.1", 0)
        stack.callback(server.close)
        stub.port = server.sockets[0].getsockname()[1]
        one, other = [
            await stack.enter_async_context(serving(fleet, leads, rules=setup))
            for leads in (range(SHARDS - 1), (SHARDS - 1,))
        ]
        yield one, other, topics, stub


async def put(engine, stub=None, **rules):
    text = json.dumps({"rules": rules}).replace("PORT", str(stub.port) if stub else "")
    return await engine.stubs.admin.PutRules(admin_pb2.PutRulesRequest(yaml=text), timeout=PATIENT_S)


async def until(condition):
    async with asyncio.timeout(PATIENT_S):
        while not condition():  # noqa: ASYNC110  the engines' doing
            await asyncio.sleep(0.01)


async def asked_until(ask, holds):
    """The first answer that is as it should be."""
    async with asyncio.timeout(PATIENT_S):
        while True:
            answer = await ask()
            if holds(answer):
                return answer
            await asyncio.sleep(0.05)


async def listed(engine):
    """The ids of all changes."""
    found, token = [], ""
    while True:
        answer = await engine.stubs.propagation.ListChanges(pb.ListChangesRequest(page_token=token))
        found += [root.change.id for root in answer.roots]
        token = answer.next_page_token
        if not token:
            return found


def reason_of(error):
    details = dict(error.trailing_metadata())["grpc-status-details-bin"]
    for detail in status_pb2.Status.FromString(details).details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return info.reason
    return ""


def test_events_are_lost_by_no_move_of_the_first_shard_and_their_changes_reach_pages_in_all_shards():
    async def main():
        async with site_of() as (one, other, topics, stub):
            call = {"topic": CHANGED, "exec": {"uri": "http://127.0.0.1:PORT/seen/{{message.resource}}"}}
            site, ids = Site(), []
            executor = Executor(site)
            await one.stubs.admin.PutViews(admin_pb2.PutViewsRequest(yaml=VIEWS))
            reads = {f"w/page/{number}/{at}": [source(number)] for number in range(60) for at in range(6)}
            assert {one.shards.of(page) for page in reads} == set(range(SHARDS))
            site.reads |= {("html", page): [(name, "content") for name in names] for page, names in reads.items()}
            asked = pb.DeclareDependenciesRequest(packed=[declaration("html", reads)])
            await other.stubs.propagation.DeclareDependencies(asked)
            assert (await put(other, stub, edits=CHANGES, seen=call)).revision == 1

            async def some(first, last):
                for number in range(first, last):
                    site.edit(source(number))
                    ids.append(await topics.edit(number))
                    await topics.edit(number)  # what comes twice is one change
                    await asyncio.sleep(0)

            await some(0, 10)
            await until(lambda: len(stub.calls) >= 5)
            await some(10, 20)
            await one.lose(0)
            await some(20, 30)
            await other.lead(0)
            await some(30, 40)
            # Brokers gave the shard back, and who led it has not heard: whatever it does is nobody's.
            await one.lead(0)
            await some(40, 50)
            await other.lose(0)
            await some(50, 55)
            await one.die()
            await some(55, 60)
            for number in range(SHARDS - 1):
                await other.lead(number)
            found = await asked_until(lambda: listed(other), lambda found: set(ids) <= set(found))
            assert sorted(found) == sorted(ids)
            for change_id in ids:
                while True:
                    root = await other.stubs.propagation.GetChange(pb.GetChangeRequest(id=change_id))
                    if root.state == pb.Root.STATE_DONE:
                        break
                    await executor.round([other.stubs], 50)
                assert root.progress.total == 6
            for page in reads:
                assert site.stored["html", page][1] == site.render(("html", page))
            await until(lambda: {path.split("/")[-1] for path in stub.paths} == {str(number) for number in range(60)})
            assert topics.opened == 1, "who leads it no more has closed it"

    asyncio.run(main())


def test_rules_are_asked_for_by_any_engine_and_stay_over_a_move():
    async def main():
        async with site_of() as (one, other, topics, stub):
            call = {"topic": EDITS, "retry_limit": 0, "exec": {"uri": "http://127.0.0.1:PORT/"}}
            stub.answers = [500] * 3
            assert (await put(other, stub, bad=call, again=CHANGES)).revision == 1
            told = (await one.stubs.admin.ListRules(admin_pb2.ListRulesRequest())).yaml
            for number in range(3):
                await topics.edit(number)
            asked = admin_pb2.QueryDeadLettersRequest(filter=admin_pb2.DeadLetterFilter(view="rule/"), page_size=2)
            letters = await asked_until(
                lambda: other.stubs.admin.QueryDeadLetters(asked), lambda answer: answer.total == 3
            )
            await one.lose(0)
            await other.lead(0)
            assert (await one.stubs.admin.ListRules(admin_pb2.ListRulesRequest())).yaml == told
            asked.page_token = letters.next_page_token
            rest = await one.stubs.admin.QueryDeadLetters(asked)
            found = sorted(letter.resource for letter in [*letters.dead_letters, *rest.dead_letters])
            assert (found, rest.next_page_token) == ([source(number) for number in range(3)], "")
            asked.page_token = "1."
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await one.stubs.admin.QueryDeadLetters(asked)
            assert reason_of(caught.value) == "PAGE_TOKEN_INVALID"
            again = admin_pb2.ReplayDeadLettersRequest(filter=admin_pb2.DeadLetterFilter(view="rule/bad"))
            before = len(stub.calls)
            assert (await one.stubs.admin.ReplayDeadLetters(again)).replayed == 3
            await until(lambda: len(stub.calls) >= before + 3)
            asked.page_token = ""
            await asked_until(lambda: other.stubs.admin.QueryDeadLetters(asked), lambda answer: not answer.total)
            wrong = await put(one, ends={**CHANGES, "topic": COMPLETED})
            assert (wrong.revision, len(wrong.mistakes)) == (1, 1) and CHANGED in wrong.mistakes[0].allowed
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await other.stubs.admin.ListRules(admin_pb2.ListRulesRequest(), metadata=[(SHARD_HEADER, "2")])
            assert reason_of(caught.value) == "NOT_THE_FIRST_SHARD"

    asyncio.run(main())


def test_what_a_shard_refuses_for_good_is_a_dead_letter():
    async def main():
        async with site_of() as (one, other, topics, _stub):
            body = {"resource": source(1), "version": "{{message.version}}", "id": "same"}
            await put(other, edits={**CHANGES, "exec": {"uri": "/sys/changes", "body": body}})
            for version in (1, 2):
                await topics.put(EDITS, event(EDITS, "u/1", version=version))
            asked = admin_pb2.QueryDeadLettersRequest(filter=admin_pb2.DeadLetterFilter(view="rule/edits"))
            letters = await asked_until(lambda: one.stubs.admin.QueryDeadLetters(asked), lambda answer: answer.total)
            assert [letter.reason for letter in letters.dead_letters] == ["CHANGE_ID_REUSED"]

    asyncio.run(main())


def test_topics_that_cannot_be_read_hold_up_the_rules_and_nothing_else():
    async def main():
        topics = Topics()
        topics.unfit = "the topic edits was made again"
        async with site_of(topics=topics) as (one, other, topics, _stub):
            change = pb.Change(id="one", resource=source(1), version=bytes(15) + b"\1")
            answer = await other.stubs.propagation.PublishChanges(pb.PublishChangesRequest(changes=[change]))
            assert not answer.results[0].status.code
            for engine in (one, other):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await put(engine, edits=CHANGES)
                assert reason_of(caught.value) == "RULES_AWAY" and topics.unfit in caught.value.details()
            topics.unfit = ""
            async with asyncio.timeout(PATIENT_S):
                while True:
                    try:
                        await put(other, edits=CHANGES)
                        break
                    except grpc.aio.AioRpcError:
                        await asyncio.sleep(0.05)
            change_id = await topics.edit(1)
            await asked_until(lambda: listed(one), lambda found: change_id in found)

    asyncio.run(main())


def test_a_file_is_put_by_whoever_leads_the_first_shard(tmp_path):
    async def main():
        path = tmp_path / "rules.yaml"
        path.write_text(json.dumps({"rules": {"edits": CHANGES}}))
        async with site_of(str(path)) as (one, other, topics, _stub):

            async def in_force(engine, text):
                asked = admin_pb2.ListRulesRequest()
                await asked_until(lambda: engine.stubs.admin.ListRules(asked), lambda answer: answer.yaml == text)

            await in_force(other, path.read_text())
            await one.lose(0)
            path.write_text(json.dumps({"rules": {"more": CHANGES}}))
            await other.lead(0)
            await in_force(one, path.read_text())
            await topics.edit(7)
            await asked_until(lambda: listed(one), lambda found: "more/edit-7" in found)

    asyncio.run(main())
