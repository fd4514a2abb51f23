"""Big declarations: one after the other, small calls between them and within them, new names some at a time.

One that is given up holds up nobody, and one that is refused leaves nothing behind.
"""

import asyncio
from typing import Any, cast

import pytest

from libs.paging.paging import PageTokens
from libs.rpc.call import Call
from services.propagation import packing
from services.propagation.domain.errors import ResourceInvalid, SelfDependency, ViewNotFound
from services.propagation.servicer import PropagationServicer
from services.propagation.simulation.calls import TEMPLATE, declaration
from services.propagation.simulation.serving import Served, served
from wellspring.propagation.v1 import propagation_pb2 as pb
from wellspring_client import packed

BIG = 2_000
NO_CALL = cast("Call", None)


def servicer_of(site: Served) -> PropagationServicer:
    return PropagationServicer(site.engine, PageTokens([bytes(32)], cast("Any", None), ttl_s=3600))


def big(number: int) -> pb.DeclareDependenciesRequest:
    one = declaration(BIG)
    one.dependents = one.dependents.replace(b"w/page/", b"w/page/%d/" % number)
    return pb.DeclareDependenciesRequest(packed=[one])


def small() -> pb.DeclareDependenciesRequest:
    one = pb.Declaration(view="html", dependent="w/page/small", dependencies=[pb.Dependency(resource=TEMPLATE)])
    return pb.DeclareDependenciesRequest(declarations=[one])


def test_a_small_declaration_does_not_wait_for_all_big_ones_before_it():
    async def main():
        async with served() as site:
            servicer, ended = servicer_of(site), []

            async def call(name, request):
                answer = await servicer.DeclareDependencies(request, NO_CALL)
                ended.append(name)
                return answer.edges_added

            calls = [call(f"big {number}", big(number)) for number in range(5)]
            added = await asyncio.gather(*calls, call("small", small()))
            assert added == [BIG] * 5 + [1]
            assert ended.index("small") <= 1, ended
            assert sorted(ended) == [*(f"big {number}" for number in range(5)), "small"]
            assert site.engine.shard.store.edge_count == 5 * BIG + 1

    asyncio.run(main())


def note_numbered(store, counts):
    """Of each write how many resources it numbers."""
    write = store.write

    def noting(commit):
        before = store.resource_count
        durable = write(commit)
        counts.append(store.resource_count - before)
        return durable

    store.write = noting


def test_new_names_are_numbered_some_at_a_time_before_the_edges():
    async def main():
        async with served() as site:
            servicer, store, most = servicer_of(site), site.engine.shard.store, []
            note_numbered(store, most)
            inputs = [f"w/new/{at:05}" for at in range(3_000)]
            one = declaration(1, inputs=inputs)
            answer = await servicer.DeclareDependencies(pb.DeclareDependenciesRequest(packed=[one]), NO_CALL)
            assert answer.edges_added == len(inputs) == store.edge_count
            assert sum(most) == len(inputs) + 1 and max(most) < len(inputs) // 2, most
            most.clear()
            again = await servicer.DeclareDependencies(pb.DeclareDependenciesRequest(packed=[one]), NO_CALL)
            assert again.edges_added == 0 and len(most) == 1, most

    asyncio.run(main())


def test_a_big_declaration_is_read_in_a_turn_of_long_work_and_a_small_one_at_once(monkeypatch):
    async def main():
        async with served() as site:
            servicer, work, turns, read = servicer_of(site), site.engine.shard.long_work, [], []
            turn, declared = work.turn, packing.declared

            def noting(piece):
                def noted():
                    turns.append(piece)
                    try:
                        return piece()
                    finally:
                        turns.clear()

                return turn(noted)

            def reading(*arguments):
                read.append(bool(turns))
                return declared(*arguments)

            monkeypatch.setattr(work, "turn", noting)
            monkeypatch.setattr(packing, "declared", reading)
            await servicer.DeclareDependencies(big(1), NO_CALL)
            await servicer.DeclareDependencies(pb.DeclareDependenciesRequest(packed=[declaration(2)]), NO_CALL)
            assert read == [True, False]

    asyncio.run(main())


@pytest.mark.parametrize("packed_ones", [True, False])
def test_dependents_without_inputs_are_long_work_too(packed_ones):
    async def main():
        async with served() as site:
            servicer, store, written = servicer_of(site), site.engine.shard.store, []
            note_numbered(store, written)
            names = [f"w/page/{at:05}" for at in range(20_000 if packed_ones else 900)]
            request = pb.DeclareDependenciesRequest()
            if packed_ones:
                dependents, counts = "\0".join(names).encode(), packed.encode_counts([0] * len(names))
                request.packed.add(view="html", dependents=dependents, counts=counts)
            else:
                request.declarations.extend(pb.Declaration(view="html", dependent=name) for name in names)
            task, turns = asyncio.ensure_future(servicer.DeclareDependencies(request, NO_CALL)), set()
            while not task.done():
                await asyncio.sleep(0)
                turns.add(len(written))
            assert (await task).edges_added == 0 and store.resource_count == len(names)
            assert len(turns) >= 5 and max(written) < len(names) // 2, (turns, written)

    asyncio.run(main())


def test_only_the_last_part_of_a_big_declaration_is_waited_for_and_a_small_one_at_once():
    async def main():
        async with served() as site:
            servicer, store, written = servicer_of(site), site.engine.shard.store, []
            write = store.write

            def noting(commit):
                written.append((commit.patient, commit.awaited))
                return write(commit)

            store.write = noting
            await servicer.DeclareDependencies(pb.DeclareDependenciesRequest(packed=[declaration(9_000)]), NO_CALL)
            assert len(written) > 5 and written[-1] == (True, True) and set(written[:-1]) == {(True, False)}
            written.clear()
            await servicer.DeclareDependencies(small(), NO_CALL)
            assert written == [(False, True)]

    asyncio.run(main())


def test_a_big_declaration_that_is_refused_for_its_view_leaves_no_names():
    async def main():
        async with served() as site:
            servicer, store = servicer_of(site), site.engine.shard.store
            before = store.resource_count
            one = declaration(1, view="nobodys", inputs=[f"w/new/{at:05}" for at in range(3_000)])
            with pytest.raises(ViewNotFound):
                await servicer.DeclareDependencies(pb.DeclareDependenciesRequest(packed=[one]), NO_CALL)
            assert store.resource_count == before

    asyncio.run(main())


def test_a_big_declaration_that_is_given_up_has_no_effect_and_holds_up_nobody():
    async def main():
        async with served() as site:
            servicer = servicer_of(site)
            tasks = [asyncio.ensure_future(servicer.DeclareDependencies(big(number), NO_CALL)) for number in range(4)]
            await asyncio.sleep(0)
            for given_up in (tasks[0], tasks[2]):  # one that has its turn, one that waits for it
                given_up.cancel()
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            assert [isinstance(answer, asyncio.CancelledError) for answer in answers] == [True, False, True, False]
            assert site.engine.shard.store.edge_count == 2 * BIG
            again = await servicer.DeclareDependencies(big(0), NO_CALL)
            assert again.edges_added == BIG

    asyncio.run(main())


def test_the_edges_of_a_big_declaration_are_written_some_at_a_time_and_small_ones_come_between():
    async def main():
        async with served() as site:
            servicer, store, seen = servicer_of(site), site.engine.shard.store, []
            one = declaration(20_000)
            task = asyncio.ensure_future(
                servicer.DeclareDependencies(pb.DeclareDependenciesRequest(packed=[one]), NO_CALL)
            )
            while not task.done():
                await asyncio.sleep(0)
                await servicer.DeclareDependencies(small(), NO_CALL)
                seen.append(store.edge_count)
            assert (await task).edges_added == 20_000 and store.edge_count == 20_001
            between = {edges for edges in seen if 1 < edges < 20_001}
            assert len(between) >= 5, seen

    asyncio.run(main())


def test_a_big_declaration_is_refused_whole_for_what_is_wrong_in_its_last_dependent():
    async def main():
        async with served() as site:
            servicer, store = servicer_of(site), site.engine.shard.store
            doubled = declaration(6_000)
            doubled.dependents += b"\0" + doubled.dependents.split(b"\0")[0]
            doubled.counts += doubled.counts[-4:]
            doubled.input_index += doubled.input_index[-4:]
            itself = declaration(6_000, inputs=[TEMPLATE, "view/html/w/page/circular"])
            itself.dependents += b"\0w/page/circular"
            itself.counts += packed.encode_counts([1])
            itself.input_index += packed.encode_counts([1])
            for bad, error in ((doubled, ResourceInvalid), (itself, SelfDependency)):
                with pytest.raises(error):
                    request = pb.DeclareDependenciesRequest(packed=[declaration(3_000), bad])
                    await servicer.DeclareDependencies(request, NO_CALL)
                assert store.edge_count == 0

    asyncio.run(main())


def test_many_declarations_of_one_call_are_in_their_order_and_let_others_come_between():
    async def main():
        async with served() as site:
            servicer, store, seen = servicer_of(site), site.engine.shard.store, []
            many = [
                pb.Declaration(
                    view="html",
                    dependent=f"w/page/{at:04}" if at % 10 else "",
                    dependencies=[pb.Dependency(resource=f"w/part/{at}-{part}") for part in range(50)],
                )
                for at in range(500)
            ]
            task = asyncio.ensure_future(
                servicer.DeclareDependencies(pb.DeclareDependenciesRequest(declarations=many), NO_CALL)
            )
            while not task.done():
                await asyncio.sleep(0)
                await servicer.DeclareDependencies(small(), NO_CALL)
                seen.append(store.edge_count)
            answer = await task
            assert [bool(result.code) for result in answer.results] == [at % 10 == 0 for at in range(500)]
            assert answer.edges_added == 450 * 50
            assert len(set(seen)) >= 5, seen

    asyncio.run(main())
