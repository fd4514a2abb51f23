"""The ways to render: by HTTP, by a gRPC service of the deployment's, by a Python function of the deployment's; or to
take what another data centre rendered."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from services.propagation.executor.pages import Item, Outcome
from services.propagation.executor.ports import Documents
from services.propagation.executor.sources import Sources
from services.propagation.targets.target import Target
from wellspring.propagation.v1 import work_pb2


@dataclass(slots=True)
class Slice:
    """What a renderer is given with the items, and what it says of them besides the pages: `seconds` is the sum of what
    each took. `inputs` are versions that must be seen at least."""

    sources: Sources
    inputs: Sequence[work_pb2.Batch.InputVersion] = ()
    first: bool = False
    """Goes before what waits for the same renderer."""
    seconds: float = 0.0
    documents: Documents | None = None
    """The store itself, for results that are taken from it."""


class RendererUnusable(Exception):
    """A view asks for a renderer that this executor does not have."""


class Renderer(Protocol):
    """Makes a view's outputs."""

    @property
    def target(self) -> Target | None:
        """What is asked over the network; None: nothing."""

    async def render(self, items: Sequence[Item], given: Slice) -> list[Outcome]:
        """One outcome for each item, in order. Raises nothing of theirs."""

    async def close(self) -> None: ...
