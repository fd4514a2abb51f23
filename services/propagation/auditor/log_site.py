"""The small site of `fakes`, but what the auditor hears is told by the shipped engine and its services, over a log from
which another owner makes the shard again. What the auditor asks to be rendered anew is played, as there.
"""

from collections.abc import AsyncIterator
from random import Random
from typing import Any, TypeVar, cast

import numpy as np
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message

from libs.clock.clock import Clock
from libs.paging.paging import PageTokens
from libs.rpc.call import Call
from services.propagation.auditor.adapters import GrpcEngine
from services.propagation.auditor.fakes import FakeEngine, FakeSite
from services.propagation.auditor.ports import ChangedOutput
from services.propagation.domain.change import Change
from services.propagation.domain.completion import Completion, complete
from services.propagation.domain.engine import Engine
from services.propagation.domain.leasing import Grant
from services.propagation.domain.shard import Settings
from services.propagation.servicer import PropagationServicer
from services.propagation.simulation.log_disk import LogDisk
from services.propagation.views.catalogue import Catalogue
from services.propagation.views.parsing import Defaults
from wellspring_client.calls import Caller
from wellspring_client.errors import Unavailable

_Answer = TypeVar("_Answer", bound=Message)
_NONE = np.empty(0, np.uint32)
_VIEWS = """
views:
  - name: html
    resource_prefixes: [w/page/]
    render: {entry_point: {function: "a:b"}}
    store: {namespace: html}
"""


class _NoDeadline:
    remaining_s = 60.0


_CALL = cast("Call", _NoDeadline())


class Owners(Caller):
    """Owners of a shard, one after another; calls reach the one that is there, and break when the next one comes."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._disk = LogDisk()
        self.take_over()

    def take_over(self) -> None:
        """The next owner, from the log."""
        store = self._disk.open()
        catalogue = Catalogue(store, Defaults())
        rng = Random(1)  # noqa: S311  a test
        self.engine = Engine(
            store, self._clock, rng, Settings(), catalogue.views(), catalogue.revision, catalogue.older()
        )
        if not catalogue.revision:
            catalogue.put(self.engine, _VIEWS)
        tokens = PageTokens([bytes(32)], self._clock, ttl_s=3600)
        self._servicer = PropagationServicer(self.engine, tokens)

    async def stream(
        self, service: ServiceDescriptor, method: str, request: Message, answer: type[_Answer], timeout_s: float | None
    ) -> AsyncIterator[_Answer]:
        """See Caller.stream."""
        servicer = self._servicer
        async for response in cast("AsyncIterator[_Answer]", getattr(servicer, method)(request, _CALL)):
            if servicer is not self._servicer:
                raise Unavailable("another owner has the shard", reason="TEST")
            yield response


class _Engine(FakeEngine):
    """Changes are the shipped engine's, by the shipped adapter."""

    owners: Owners

    def changes(self) -> Any:
        """See ports.Engine."""
        return GrpcEngine(self.owners).changes()


class LogSite(FakeSite):
    """See `FakeSite`."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.owners = Owners(clock)
        self.engine = _Engine()
        self.engine.owners = self.owners
        self._lent: dict[str, Grant] = {}

    def lend(self, resource: str) -> bytes:
        """See `FakeSite.lend`: the page is edited, and leased."""
        number = len(self._lent) + self.renders
        change = Change(f"edit {number}", resource, ("content",), number.to_bytes(16, "big"))
        self.owners.engine.publish(change)
        (grant,) = self.owners.engine.lease("x", {"html": 1})
        self._lent[resource] = grant
        return grant.rendered_version

    def accept(self, changed: ChangedOutput) -> None:
        """See `FakeSite.accept`: the lease is completed."""
        lease = self._lent.pop(changed.resource).lease
        hashes = np.frombuffer(changed.hash, "V16")
        done = Completion(lease.id, lease.fencing, lease.ids, hashes, None, (), _NONE, _NONE, 0.0, 0)
        complete(self.owners.engine.shard, done)
