"""An executor of a test: it asks every engine for work, renders a site's pages, stores what changed and completes."""

import hashlib
from collections.abc import Sequence
from typing import Any

import grpc

from services.propagation.simulation.site import Site
from wellspring.propagation.v1 import propagation_pb2 as pb
from wellspring.propagation.v1 import work_pb2
from wellspring_client import packed

VIEWS = """
views:
  - name: html
    resource_prefixes: [w/page/]
    render: {entry_point: {function: "examples.wiki.renderer:render"}}
    store: {namespace: html}
    retry: {max_attempts: 2, initial_backoff: 10ms, max_backoff: 20ms}
  - name: summary
    resource_prefixes: [w/page/]
    render: {entry_point: {function: "examples.wiki.renderer:render"}}
    store: {namespace: summaries, record: "{name}"}
"""
_CAPACITY = ("html", "summary", "board")


class Executor:
    """`rendered` are (view, page) in the order in which they were acknowledged."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.rendered: list[tuple[str, str]] = []
        self.refused = 0

    async def round(self, engines: Sequence[Any], items: int = 20) -> int:
        """Leases once of each engine (its stubs) and completes there; answers how many pages were rendered."""
        count = 0
        for stubs in engines:
            batches = await self.lease(stubs, items)
            for batch in batches:
                count += await self.complete(stubs, self.render(batch))
        return count

    async def lease(self, stubs: Any, items: int = 20) -> Sequence[work_pb2.Batch]:
        """What the engine lends now; nothing when it is gone."""
        capacity = [work_pb2.LeaseRequest.Capacity(view=view, items=items) for view in _CAPACITY]
        try:
            answer: work_pb2.LeaseResponse
            answer = await stubs.work.Lease(work_pb2.LeaseRequest(executor="test", capacity=capacity))
            return answer.batches
        except grpc.aio.AioRpcError as error:
            assert error.code() is grpc.StatusCode.UNAVAILABLE, error
            return []

    def render(self, batch: work_pb2.Batch) -> work_pb2.Completion:
        """Renders and stores the batch."""
        names = batch.names.decode().split("\0")
        places = [(batch.view, name) for name in names]
        bodies = [self.site.render(place) for place in places]
        hashes = [hashlib.blake2b(body, digest_size=16).digest() for body in bodies]
        for at, place in enumerate(places):
            if hashes[at] != batch.accepted_hashes[16 * at : 16 * at + 16]:
                self.site.put(place, batch.rendered_version, bodies[at])
        sets = [self.site.reads.get(place, []) for place in places]
        inputs = sorted({name for reads in sets for name, _ in reads})
        return work_pb2.Completion(
            lease_id=batch.lease_id,
            fencing=batch.fencing,
            done=batch.ids,
            hashes=b"".join(hashes),
            packed_dependencies=pb.PackedDeclarations(
                view=batch.view,
                dependents=batch.ids,
                inputs="\0".join(inputs).encode(),
                counts=packed.encode_counts([len(reads) for reads in sets]),
                input_index=packed.encode_counts([inputs.index(name) for reads in sets for name, _ in reads]),
            ),
        )

    async def complete(self, stubs: Any, completion: work_pb2.Completion) -> int:
        """Tells an engine; answers how many pages it took."""
        response = await stubs.work.Complete(work_pb2.CompleteRequest(completions=[completion]))
        result = response.results[0]
        self.refused += result.status.code != 0
        return int(result.accepted)


def declaration(view: str, sets: dict[str, Sequence[str]]) -> pb.PackedDeclarations:
    """The dependencies of pages, packed."""
    inputs = sorted({name for reads in sets.values() for name in reads})
    places = {name: at for at, name in enumerate(inputs)}
    return pb.PackedDeclarations(
        view=view,
        dependents="\0".join(sets).encode(),
        inputs="\0".join(inputs).encode(),
        counts=packed.encode_counts([len(reads) for reads in sets.values()]),
        input_index=packed.encode_counts([places[name] for reads in sets.values() for name in reads]),
    )
