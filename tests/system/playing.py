"""An executor that a test plays over the SDK: it renders nothing, and keeps what it has completed."""

from collections import Counter
from dataclasses import dataclass, field
from hashlib import blake2b

from wellspring.propagation.v1 import work_pb2
from wellspring_client import packed
from wellspring_client.sync import Propagation

_ACTIVE = 1  # propagation.proto, Root.State


@dataclass
class Player:
    """Completes whatever it is lent from `view`. A page's hash is of its name and `edition`.

    `rendered` counts accepted completions by name, `sent` holds the names of all that were sent; `versions` are the
    rendered versions of the leases, as they came.
    """

    view: str
    edition: int = 0
    items: int = 500
    rendered: Counter[str] = field(default_factory=Counter)
    sent: set[str] = field(default_factory=set)
    versions: list[bytes] = field(default_factory=list)

    def lease(self, engine: Propagation) -> list[work_pb2.Batch]:
        """What there is to do now; nothing is waited for."""
        capacity = [work_pb2.LeaseRequest.Capacity(view=self.view, items=self.items)]
        request = work_pb2.LeaseRequest(executor="player", capacity=capacity)
        batches = list(engine.work.lease(request).batches)
        self.versions += [batch.rendered_version for batch in batches]
        return batches

    def complete(self, engine: Propagation, batch: work_pb2.Batch) -> int:
        """Reports all of a batch as done; answers how many were accepted (0: the lease had ended)."""
        names = packed.decode_names(batch.names)
        hashes = [blake2b(f"{name} {self.edition}".encode(), digest_size=16).digest() for name in names]
        completion = work_pb2.Completion(
            lease_id=batch.lease_id, fencing=batch.fencing, done=batch.ids, hashes=packed.encode_hashes(hashes)
        )
        self.sent.update(names)
        (result,) = engine.work.complete(work_pb2.CompleteRequest(completions=[completion])).results
        if result.accepted:
            self.rendered.update(names)
        return result.accepted

    def turn(self, engine: Propagation) -> int:
        """Leases once and completes it; answers how many pages were done."""
        return sum(self.complete(engine, batch) for batch in self.lease(engine))

    def until_done(self, engine: Propagation, change: str) -> int:
        """Works until the change is not active any more; answers its state."""
        while (root := engine.get_change(change)).state == _ACTIVE:
            self.turn(engine)
        return int(root.state)
