"""A small site for simulations: sources with versions, pages made of them, a store and a cache that keep order.

What a page must show is computed here from the sources alone; the engine is asked for nothing. A page's bytes are the
versions of the sources that it reads (through the stored outputs of other pages, where it is made of these), so that a
page which misses a change differs from what it must be.
"""

from dataclasses import dataclass, field

Input = tuple[str, str]
"""(resource, aspect)"""
Place = tuple[str, str]
"""(view, resource)"""


@dataclass(slots=True)
class Site:
    """`reads` says what each page is made of; `shown_of` what they show of a source; `fixed` is every page."""

    sources: dict[Input, int] = field(default_factory=dict)
    reads: dict[Place, list[Input]] = field(default_factory=dict)
    shown_of: dict[Input, int] = field(default_factory=dict)
    stored: dict[Place, tuple[bytes, bytes]] = field(default_factory=dict)
    cache_minimum: dict[Place, bytes] = field(default_factory=dict)
    fixed: bytes | None = None
    refused: int = 0
    puts: int = 0
    purges: int = 0
    renders: list[tuple[Place, bytes]] = field(default_factory=list)

    def edit(self, resource: str, aspect: str = "content", *, visible: bool = True) -> int:
        """A new version of a source; `visible` false leaves what pages show of it as it is."""
        version = self.sources.get((resource, aspect), 0) + 1
        self.sources[resource, aspect] = version
        if visible or (resource, aspect) not in self.shown_of:
            self.shown_of[resource, aspect] = version
        return version

    def render(self, place: Place) -> bytes:
        """The page's bytes now, from sources and from the outputs as they are stored."""
        if self.fixed is not None:
            return self.fixed
        parts = [self._part(read) for read in [(place[1], "content"), *self.reads.get(place, [])]]
        return repr((place, parts)).encode()

    def _part(self, read: Input) -> object:
        output = _output(read[0])
        if output is not None:
            return self.stored.get(output, (b"", b""))[1]
        return self.shown_of.get(read, 0)

    def put(self, place: Place, version: bytes, body: bytes) -> bool:
        """Stores over what is older; refuses to go back."""
        held = self.stored.get(place)
        if held is not None and held[0] >= version:
            self.refused += held[0] > version
            return held[0] == version
        self.stored[place] = (version, body)
        self.puts += 1
        return True

    def purge(self, place: Place, version: bytes) -> None:
        """Caches keep nothing older than this; the minimum never falls."""
        self.purges += 1
        self.cache_minimum[place] = max(version, self.cache_minimum.get(place, b""))

    def stale(self) -> list[Place]:
        """Pages whose stored bytes are not what they must be now, or that no cache was told of."""
        return [
            place
            for place, (version, body) in self.stored.items()
            if body != self.render(place) or self.cache_minimum.get(place, b"") < version
        ]


def _output(resource: str) -> Place | None:
    if not resource.startswith("view/"):
        return None
    _, view, source = resource.split("/", 2)
    return view, source
