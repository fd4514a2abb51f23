"""The renderer that executors load by name: slow, failing and hanging by seed, its inputs named in any order.

`render` reads through the executor's fetch, which knows how new inputs must be. `render_blind` reads the lagging copy
itself and cannot tell how old it is: its view declares a settle delay.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from random import Random
from typing import Any

from libs.render.types import RenderError, RenderRequest, RenderResult
from services.propagation.simulation.seeded.faults import Faults
from services.propagation.simulation.seeded.site import (
    OSCILLATES,
    Input,
    Site,
    card_body,
    digest,
    output_place,
    page_body,
    parsed,
    recipe_of,
)

GONE = RenderResult(b"", "text/plain", missing=True)
SLOW_S = 3.0
HANGS_S = 500.0


class Kitchen:
    """What renders of this simulation share."""

    def __init__(self, site: Site, rng: Random, faults: Callable[[], Faults]) -> None:
        self.site = site
        self.rng = rng
        self.faults = faults
        self.renders: dict[tuple[str, str], int] = {}

    async def temper(self, request: RenderRequest) -> None:
        """Takes its time, or fails. Raises RenderError."""
        rng, faults = self.rng, self.faults()
        self.renders[request.view, request.resource] = self.renders.get((request.view, request.resource), 0) + 1
        if rng.random() < faults.render_hangs:
            await asyncio.sleep(HANGS_S)
        elif rng.random() < faults.render_slow:
            await asyncio.sleep(rng.uniform(0, SLOW_S))
        if rng.random() < faults.render_fails:
            raise RenderError("made to fail", retryable=True)

    def shuffled(self, inputs: list[Input]) -> list[Input]:
        """In another order each time."""
        return self.rng.sample(inputs, len(inputs))


CURRENT: ContextVar[Kitchen] = ContextVar("kitchen")


async def render(request: RenderRequest) -> RenderResult:
    """A page or card as its own document says, of inputs that are new enough."""
    kitchen = CURRENT.get()
    await kitchen.temper(request)
    found = await request.fetch([request.resource])
    own = found[request.resource]
    if own is None:
        return GONE
    document = parsed(own.value)
    inputs = kitchen.shuffled(recipe_of(document, request.view))
    names = [name for name, _ in inputs]
    cut = kitchen.rng.randrange(len(names) + 1)
    values: dict[str, bytes | None] = {}
    for some in (names[:cut], names[cut:]):
        if some:
            values |= {
                name: one.value if one is not None else None for name, one in (await request.fetch(some)).items()
            }
    return _result(request, document, inputs, values)


async def render_blind(request: RenderRequest) -> RenderResult:
    """A page of whatever the lagging copy has."""
    kitchen = CURRENT.get()
    await kitchen.temper(request)
    replica = kitchen.site.replica
    own = replica.read(request.resource)
    if own is None or own.value is None:
        return GONE
    document = parsed(own.value)
    inputs = kitchen.shuffled(recipe_of(document, request.view))
    values: dict[str, bytes | None] = {}
    for name, _ in inputs:
        held = replica.read(name)
        values[name] = held.value if held is not None else None
    return _result(request, document, inputs, values)


def _result(
    request: RenderRequest, document: dict[str, Any], inputs: list[Input], values: Mapping[str, bytes | None]
) -> RenderResult:
    if document["poison"]:
        raise RenderError("this document cannot be rendered", retryable=True)
    dependencies = list(inputs)
    shown = {f"{request.resource}|content": int(document["shown"].get("content", 0))}
    for name, aspect in inputs:
        value = values[name]
        if output_place(name) is not None:
            shown[f"{name}|{aspect}"] = digest(value)
        else:
            shown[f"{name}|{aspect}"] = int(parsed(value)["shown"].get(aspect, 0))
    body = page_body(shown)
    if request.view == "card":
        numbers = [_number(values[n]) if output_place(n) is not None else shown[f"{n}|{a}"] for n, a in inputs]
        own = shown[f"{request.resource}|content"]
        body = card_body(1 - max(numbers) if request.resource.startswith(OSCILLATES) else max(own, *numbers, 0))
    return RenderResult(body, "text/plain", dependencies, [])


def _number(card: bytes | None) -> int:
    return int(json.loads(card)["card"]) if card is not None else 0
