"""What commits of the store in memory number: taken out of their operations, and made operations again."""

from collections.abc import Sequence

import numpy as np

from services.propagation.store.memory_state import Op
from services.propagation.store.numbered import InputNumbers, Numbered


def numbered(ops: Sequence[Op], next_resource: int, next_input: int) -> Numbered:
    """What the operations number."""
    views: dict[str, int] = {}
    names: dict[bytes, int] = {}
    inputs: dict[tuple[int, str], int] = {}
    for method, arguments in ops:
        if method == "add_views":
            views |= arguments[0]
        elif method == "add_names":
            names |= arguments[0]
        elif method == "add_inputs":
            inputs |= arguments[0]
    aspects = tuple(dict.fromkeys(aspect for _, aspect in inputs))
    given = InputNumbers(
        np.array(list(inputs.values()), np.uint32),
        np.array([resource for resource, _ in inputs], np.uint32),
        np.array([aspects.index(aspect) for _, aspect in inputs], np.uint32),
        aspects,
    )
    return Numbered(views, names, given, next_resource, next_input)


def input_parts(given: InputNumbers) -> dict[tuple[int, str], int]:
    """The inputs' numbers by (resource, aspect)."""
    aspects = [given.aspects[at] for at in given.which.tolist()]
    return dict(zip(zip(given.resources.tolist(), aspects, strict=True), given.numbers.tolist(), strict=True))
