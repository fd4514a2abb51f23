"""Which promise a planted bug breaks."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from services.propagation.simulation.seeded.trace import Violation


def found(
    kind: Callable[[int], Any],
    seeds: Iterable[int],
    plant: Callable[[Any], None] | None = None,
    patched: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> str | None:
    """The first promise that a seed finds broken, in a world of this kind."""
    with patched():
        for seed in seeds:
            world = kind(seed)
            if plant is not None:
                plant(world)
            try:
                world.run()
            except Violation as broken:
                return broken.rule
    return None
