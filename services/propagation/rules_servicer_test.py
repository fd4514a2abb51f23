"""Rules and canaries over the wire: put, refused, listed; dead letters of rules; the status of watched sources."""

import asyncio
from contextlib import asynccontextmanager

import grpc

from services.propagation.domain.shard import Settings
from services.propagation.rules.state import State
from services.propagation.rules.topics import CHANGED
from services.propagation.simulation.calls import change, publish, reason_of, refused
from services.propagation.simulation.serving import served
from services.propagation.store.memory_state import MemoryDisk
from wellspring.propagation.v1 import propagation_admin_pb2 as admin
from wellspring.propagation.v1 import propagation_pb2 as pb

RULES = """
rules:
  tell:
    topic: wellspring.resource.changed.v1
    match: {aspects: [content]}
    retry_limit: 0
    exec: {method: post, uri: 'http://127.0.0.1:PORT/', body: '{{message}}'}
"""


@asynccontextmanager
async def target(answers):
    """A server that answers each request with the next status, 200 after the last."""
    asked = []

    async def serve(reader, writer):
        while line := await reader.readline():
            size = 0
            while (row := await reader.readline()) not in (b"\r\n", b""):
                name, _, value = row.decode().partition(":")
                size = int(value) if name.lower() == "content-length" else size
            await reader.readexactly(size)
            asked.append(line)
            writer.write(f"HTTP/1.1 {answers.pop(0) if answers else 200} x\r\nContent-Length: 0\r\n\r\n".encode())
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield asked, RULES.replace("PORT", str(server.sockets[0].getsockname()[1]))


async def until(condition, seconds=120.0):
    end = asyncio.get_running_loop().time() + seconds
    while not await condition():
        assert asyncio.get_running_loop().time() < end, "waited too long"
        await asyncio.sleep(0.05)


async def letters(site, view="rule/tell", **more):
    wanted = admin.DeadLetterFilter(view=view, **more)
    return await site.admin.QueryDeadLetters(admin.QueryDeadLettersRequest(filter=wanted))


def test_rules_are_put_listed_and_refused_with_their_lines():
    async def main():
        async with target([]) as (_, rules), served() as site:
            wrong = rules.replace("topic: wellspring", "topic: wellsprung").replace("retry_limit: 0", "limiters: {}")
            answer = await site.admin.ValidateRules(admin.ValidateRulesRequest(yaml=wrong))
            assert [one.line for one in answer.mistakes] == [4, 6]
            assert CHANGED in answer.mistakes[0].allowed and "rules.tell.topic" in answer.mistakes[0].what
            put = await site.admin.PutRules(admin.PutRulesRequest(yaml=wrong))
            assert put.revision == 0 and len(put.mistakes) == 2
            put = await site.admin.PutRules(admin.PutRulesRequest(yaml=rules))
            assert put.revision == 1 and not put.mistakes
            listed = await site.admin.ListRules(admin.ListRulesRequest())
            assert (listed.yaml, listed.revision) == (rules, 1)
            error = await refused(site.admin.PutRules(admin.PutRulesRequest(yaml=rules, if_revision=9)))
            assert error.code() is grpc.StatusCode.ABORTED and reason_of(error) == "REVISION_MISMATCH"

    asyncio.run(main())


def test_dead_letters_of_rules_are_listed_tried_again_and_given_up():
    async def main():
        async with target([500, 500, 500]) as (asked, rules), served() as site:
            await site.admin.PutRules(admin.PutRulesRequest(yaml=rules))
            results = await publish(site, *(change(f"c{n}", f"w/x/{n}", 1) for n in range(3)))
            assert all(result.root for result in results)

            async def all_dead():
                return (await letters(site)).total == 3

            await until(all_dead)
            found = await letters(site, resource_prefix="w/x/1")
            (letter,) = found.dead_letters
            assert (letter.view, letter.resource, letter.root) == ("rule/tell", "w/x/1", "c1")
            assert (letter.reason, letter.attempts) == ("HTTP_500", 1) and letter.last_time.seconds
            first = admin.QueryDeadLettersRequest(filter=admin.DeadLetterFilter(view="rule/"), page_size=2)
            page = await site.admin.QueryDeadLetters(first)
            assert len(page.dead_letters) == 2 and page.next_page_token
            first.page_token = page.next_page_token
            rest = await site.admin.QueryDeadLetters(first)
            assert len(rest.dead_letters) == 1 and not rest.next_page_token
            assert (await letters(site, "rule/other")).total == 0
            wanted = admin.DeadLetterFilter(view="rule/tell", root="c0")
            assert (await site.admin.ReplayDeadLetters(admin.ReplayDeadLettersRequest(filter=wanted))).replayed == 1

            async def one_less():
                return (await letters(site)).total == 2

            await until(one_less)
            assert len(asked) == 4
            wanted = admin.DeadLetterFilter(view="rule/")
            assert (await site.admin.DiscardDeadLetters(admin.DiscardDeadLettersRequest(filter=wanted))).discarded == 2
            assert (await site.admin.ReplayDeadLetters(admin.ReplayDeadLettersRequest(filter=wanted))).replayed == 0
            error = await refused(
                site.admin.QueryDeadLetters(admin.QueryDeadLettersRequest(filter=wanted, page_size=-1))
            )
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT

    asyncio.run(main())


def test_a_restart_goes_on_where_the_rules_were():
    async def main():
        disk = MemoryDisk()
        async with target([]) as (asked, rules):
            async with served(disk) as site:
                await publish(site, change("before", "w/x/0", 1))
                await site.admin.PutRules(admin.PutRulesRequest(yaml=rules))
                (accepted,) = await publish(site, change("a", "w/x/1", 1))
                state = State(site.engine)

                async def told():
                    kept = state.cursor("tell", CHANGED)
                    return kept is not None and kept.at >= accepted.sequence

                await until(told)
                assert len(asked) == 1
            async with served(disk) as site:
                await publish(site, change("b", "w/x/2", 1))

                async def told_again():
                    return len(asked) == 2

                await until(told_again)
                assert (await site.admin.ListRules(admin.ListRulesRequest())).revision == 1

    asyncio.run(main())


def test_canaries_show_in_the_status():
    async def main():
        async with served(settings=Settings(canaries={"feed": 0.05})) as site:
            await asyncio.sleep(0.15)
            (source,) = (await site.admin.GetStatus(admin.GetStatusRequest())).sources
            assert source.name == "feed" and source.overdue and not source.HasField("last_canary_time")
            sign = change("canary/1", "w/x/1", 1, cause=pb.Cause(kind="canary"), attributes={"source": "feed"})
            (result,) = await publish(site, sign)
            assert not result.root and result.sequence and not result.status.code
            (source,) = (await site.admin.GetStatus(admin.GetStatusRequest())).sources
            assert source.last_canary_time.seconds

    asyncio.run(main())
