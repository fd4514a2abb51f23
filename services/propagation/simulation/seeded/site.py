"""The site that is simulated: documents with versions, a replica that lags, pages that are stored in order of version.

A document is {"shown": {aspect: n}, "recipe": {view: [[resource, aspect], ...]}, "poison": bool}. What a page must show
is computed from the documents alone (`truth`): the engine is asked for nothing.
"""

import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from services.propagation.simulation.seeded.trace import Violation

Place = tuple[str, str]
"""(view, resource)"""
Input = tuple[str, str]
"""(resource, aspect)"""

OSCILLATES = "card/x"
"""Cards whose names begin so show the opposite of what the other one shows."""
_LONGEST_CYCLE = 20


@dataclass(slots=True)
class Versioned:
    """Bytes at a version of 16 bytes; none where it was deleted at that version."""

    version: bytes
    value: bytes | None


@dataclass(slots=True)
class Replica:
    """One lagging copy: a version is seen some time after it was written, and none after a newer one."""

    now: Callable[[], float]
    rng: Random
    lag_s: float = 0.0
    _history: dict[str, list[tuple[float, Versioned]]] = field(default_factory=dict)

    def take(self, name: str, document: Versioned) -> None:
        """A write arrives, later."""
        history = self._history.setdefault(name, [])
        seen_s = self.now() + self.rng.random() * self.lag_s
        history.append((max(seen_s, history[-1][0] if history else 0.0), document))

    def catch_up(self) -> None:
        """Has all that was written by now."""
        for history in self._history.values():
            del history[:-1]
            history[0] = (self.now(), history[0][1])

    def read(self, name: str) -> Versioned | None:
        """As the copy has it now."""
        history = self._history.get(name, [])
        while len(history) > 1 and history[1][0] <= self.now():
            del history[0]
        return history[0][1] if history and history[0][0] <= self.now() else None


class Site:
    """Documents and pages, with the copy of each that readers of a replica see."""

    def __init__(self, now: Callable[[], float], rng: Random, lag_s: float) -> None:
        self.documents: dict[str, Versioned] = {}
        self.pages: dict[Place, Versioned] = {}
        self.replica = Replica(now, rng, lag_s)
        self.shown: dict[tuple[str, str, int], int] = {}
        self.puts = 0
        self.refused = 0

    # -- documents ----------------------------------------------------------------------------------------------------

    def document(self, name: str) -> dict[str, Any]:
        """The newest one; an empty one where there is none."""
        held = self.documents.get(name)
        return parsed(held.value if held is not None else None)

    def deleted(self, name: str) -> bool:
        """Whether there was one."""
        held = self.documents.get(name)
        return held is not None and held.value is None

    def next_version(self, name: str) -> int:
        """What the next write makes; nothing that a document ever showed is greater."""
        held = self.documents.get(name)
        return int.from_bytes(held.version, "big") + 1 if held is not None else 1

    def write(self, name: str, document: dict[str, Any] | None) -> int:
        """A new version of a document, None deletes it; answers which."""
        version = self.next_version(name)
        value = json.dumps(document, sort_keys=True).encode() if document is not None else None
        written = Versioned(version.to_bytes(16, "big"), value)
        self.documents[name] = written
        self.replica.take(name, written)
        for aspect, shown in document["shown"].items() if document is not None else ():
            self.shown[name, aspect, version] = shown
        return version

    # -- pages --------------------------------------------------------------------------------------------------------

    def put(self, place: Place, version: bytes, body: bytes | None) -> bool:
        """Stores over what is older, or deletes it. Whether it did."""
        held = self.pages.get(place)
        if held is not None and held.version == version and held.value != body:
            raise Violation("one version, one body", f"{place} at {version.hex()} was stored with other bytes before")
        if held is not None and held.version >= version:
            self.refused += 1
            return False
        self.puts += 1
        self.pages[place] = Versioned(version, body)
        self.replica.take(output_name(place), self.pages[place])
        return True

    def read(self, name: str) -> Versioned | None:
        """The newest document or page of this name."""
        place = output_place(name)
        return self.pages.get(place) if place is not None else self.documents.get(name)

    # -- truth --------------------------------------------------------------------------------------------------------

    def recipe(self, place: Place) -> list[Input]:
        """What the page is made of now, but for its own document."""
        return recipe_of(self.document(place[1]), place[0])

    def truth(self, place: Place) -> bytes | None:
        """The bytes that the page must have when nothing is left to do; None where there must be no page."""
        return self._truth(place, {})

    def _truth(self, place: Place, known: dict[Place, bytes | None]) -> bytes | None:
        if place in known:
            return known[place]
        if self.deleted(place[1]):
            return None
        if place[0] == "card":
            return self._card(place)
        shown = {f"{place[1]}|content": self.document(place[1])["shown"].get("content", 0)}
        for name, aspect in self.recipe(place):
            source = output_place(name)
            shown[f"{name}|{aspect}"] = (
                digest(self._truth(source, known))
                if source is not None
                else self.document(name)["shown"].get(aspect, 0)
            )
        known[place] = page_body(shown)
        return known[place]

    def _card(self, place: Place) -> bytes:
        """Cards in a cycle all come to show the greatest number that any of them reads."""
        ring: list[Place] = []
        todo = [place]
        greatest = 0
        while todo:
            card = todo.pop()
            if card in ring:
                continue
            ring.append(card)
            greatest = max(greatest, self.document(card[1])["shown"].get("content", 0))
            for name, aspect in self.recipe(card):
                source = output_place(name)
                if source is not None:
                    todo.append(source)
                else:
                    greatest = max(greatest, self.document(name)["shown"].get(aspect, 0))
        return card_body(greatest)


def recipe_of(document: dict[str, Any], view: str) -> list[Input]:
    """The inputs that a document names for a view."""
    return [(name, aspect) for name, aspect in document["recipe"].get(view, [])]


def output_name(place: Place) -> str:
    """The resource that a page is."""
    return f"view/{place[0]}/{place[1]}"


def output_place(name: str) -> Place | None:
    """The page that a resource is, None for a document."""
    if not name.startswith("view/"):
        return None
    _, view, resource = name.split("/", 2)
    return view, resource


def parsed(value: bytes | None) -> dict[str, Any]:
    """A document of its bytes; an empty one of none."""
    return json.loads(value) if value is not None else {"shown": {}, "recipe": {}, "poison": False}


def digest(body: bytes | None) -> int:
    """A number that stands for a page's bytes in the pages made of it, 0 where there is no page."""
    return zlib.crc32(body) if body is not None else 0


def page_body(shown: dict[str, int]) -> bytes:
    """A page: what it shows of each input."""
    return json.dumps(shown, sort_keys=True).encode()


def card_body(number: int) -> bytes:
    """A card: one number."""
    return json.dumps({"card": number}).encode()
