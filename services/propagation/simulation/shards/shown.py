"""What pages show of a change, through all that they are made of: judged by the bytes that were stored, and by the
documents. The fleet is asked for nothing.

A page has in it, for each page that it is made of, a number of that one's bytes: so the bytes that it was made of are
known. What somebody cancelled is promised to nobody. A change that shows no more than an earlier one is no news: whose
root renders it is not known here. What a page was made of before that was accepted, nobody could know.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from services.propagation.domain.change import Change
from services.propagation.domain.partition import shard_of
from services.propagation.domain.records import read_root
from services.propagation.domain.shard import Shard
from services.propagation.fleet.ids import change_told
from services.propagation.simulation.seeded.places import PLACES
from services.propagation.simulation.seeded.site import Place, Site, digest, output_name, output_place
from services.propagation.simulation.seeded.trace import Violation


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A change that its author was told of; what it shows of each of its aspects that it shows first."""

    change: Change
    token: str
    shows: tuple[tuple[str, int], ...]

    @property
    def id(self) -> str:
        """Its id."""
        return self.change.id


class Judge:
    """`domain` of a shard is None while nobody leads it; `now` are seconds."""

    def __init__(
        self, site: Site, shards: int, domain: Callable[[int], Shard | None], now: Callable[[], float]
    ) -> None:
        self._site = site
        self._now_s = now
        self._taken: set[tuple[Place, bytes]] = set()
        self._known: set[tuple[Place, int]] = set()
        self._accepted: dict[tuple[Place, bytes], float] = {}
        self._shards = shards
        self._domain = domain
        self._bodies: dict[tuple[Place, int], bytes] = {}
        self._given_up: dict[str, int] = {}
        self._first: dict[tuple[str, int], int] = {}

    def stored(self) -> None:
        """Something was: notes it."""
        for place, page in self._site.pages.items():
            if page.value is not None:
                self._bodies.setdefault((place, digest(page.value)), page.value)

    def taken(self, place: Place, version: bytes) -> None:
        """The render of this version is accepted, and may not be durable yet."""
        self._taken.add((place, version))
        page = self._site.pages.get(place)
        if page is not None and page.version == version:
            self._known.add((place, digest(page.value)))

    def accepted(self, place: Place, version: bytes) -> None:
        """The render of this version is durable at whoever leads the page's shard: what it is made of is known."""
        self._accepted.setdefault((place, version), self._now_s())

    def give_up(self, resource: str) -> None:
        """What the resource showed by now is promised to nobody."""
        shown = self._site.document(resource)["shown"].values()
        self._given_up[resource] = max([self._given_up.get(resource, 0), *shown])

    def acknowledged(self, change: Change, token: str) -> Acknowledged:
        """The change with what it shows first."""
        version = int.from_bytes(change.version, "big")
        shows = []
        for aspect in change.aspects:
            wanted = self._site.shown.get((change.resource, aspect, version), 0)
            if wanted and self._first.setdefault((f"{change.resource}|{aspect}", wanted), version) == version:
                shows.append((f"{change.resource}|{aspect}", wanted))
        return Acknowledged(change, token, tuple(shows))

    def made_of(self, resource: str) -> list[Place]:
        """Pages that are made of a resource by the documents of now, however far back; without cards."""
        return [place for place in PLACES if place[0] != "card" and self._reads(place, resource)]

    def names(self, place: Place, resource: str) -> bool:
        """Whether the page is the resource's own, or its document names it."""
        return place[1] == resource or any(name == resource for name, _ in self._site.recipe(place))

    def _reads(self, place: Place, resource: str) -> bool:
        sources = [output_place(name) for name, _ in self._site.recipe(place)]
        return self.names(place, resource) or any(
            source is not None and source[0] != "card" and self._reads(source, resource) for source in sources
        )

    def visible(self, known: Acknowledged, place: Place, by_s: float) -> None:
        """Somebody was told that the page shows the change, by what was known at `by_s`. Raises Violation."""
        for key, wanted in self._promised(known):
            stale = self._stale(place, self._now(place), key, wanted, by_s)
            if stale:
                raise Violation("visible is visible", f"{known.id}: {place} shows {stale}, not {key} {wanted}")

    def ended(self, known: Acknowledged, by_s: float | None = None) -> None:
        """Somebody was told that the change is done everywhere; without `by_s` it is, as all shards have it in memory
        now. Raises Violation."""
        for key, wanted in self._promised(known):
            for place in PLACES:
                stale = self._stale(place, self._now(place), key, wanted, by_s)
                if stale and not self._wanted_by_another(known.id, place):
                    raise Violation("a done root has ended", f"{known.id}: {place} shows {stale}, not {key} {wanted}")

    def _promised(self, known: Acknowledged) -> Iterator[tuple[str, int]]:
        for key, wanted in known.shows:
            if wanted > self._given_up.get(known.change.resource, 0):
                yield key, wanted

    def _now(self, place: Place) -> bytes | None:
        page = self._site.pages.get(place)
        return page.value if page is not None else None

    def _stale(self, place: Place, body: bytes | None, key: str, wanted: int, by_s: float | None) -> str:
        """What of it is older, in these bytes of a page; nothing of cards, which have one number.

        What a page is made of since a render that was not accepted by then nobody could know.
        """
        if body is None or place[0] == "card" or not self._settled(place, by_s):
            return ""
        shown = json.loads(body)
        if shown.get(key, wanted) < wanted:
            return f"{key} {shown[key]}"
        for name, number in shown.items():
            source = output_place(name.removesuffix("|content"))
            if source is None or not self._has(source, self._now(source), key):
                continue
            made_of = self._bodies.get((source, number)) if (source, number) in self._known else None
            if stale := self._stale(source, made_of, key, wanted, by_s):
                return f"{output_name(source)} with {stale}"
        return ""

    def _settled(self, place: Place, by_s: float | None) -> bool:
        page = self._site.pages.get(place)
        if page is None:
            return False
        if by_s is None:
            return (place, page.version) in self._taken
        return self._accepted.get((place, page.version), by_s + 1) <= by_s

    def _has(self, place: Place, body: bytes | None, key: str) -> bool:
        """Whether the page is made of it now, however far back."""
        if body is None or place[0] == "card":
            return False
        shown = json.loads(body)
        sources = [output_place(name.removesuffix("|content")) for name in shown]
        return key in shown or any(self._has(source, self._now(source), key) for source in sources if source)

    def _wanted_by_another(self, change_id: str, place: Place) -> bool:
        """Whether the page, or one that it is made of, is a dead letter, or to be rendered for another root."""
        number = shard_of(place[1], self._shards)
        shard = self._domain(number)
        if shard is None:
            return True
        view = shard.store.views.get(place[0])
        item = int(shard.store.find_resources([place[1].encode()])[0])
        if view is None or item < 0:
            return True
        if item in shard.holds.dead(view) or self._told_of_another(change_id, place, number):
            return True
        if any(
            change_told(number, root.id) != change_id
            for root in shard.roots.values()
            for group in root.of_view(view)
            if item in group.pending or item in group.failed
        ):
            return True
        made_of = [output_place(name) for name, _ in self._site.recipe(place)]
        return any(self._wanted_by_another(change_id, source) for source in made_of if source and source[0] != "card")

    def _told_of_another(self, change_id: str, place: Place, reader: int) -> bool:
        """Whether another shard is still to tell this page's of what it is made of, for another root."""
        sources = [output_place(name) for name, _ in self._site.recipe(place)]
        for source in (one for one in sources if one is not None):
            number = shard_of(source[1], self._shards)
            shard = self._domain(number)
            if shard is None:
                return True
            if number == reader:
                continue
            for untold in shard.interest.untold(reader):
                records = (read_root(shard.store, part.root) for part in untold.parts)
                if any(record is not None and record.change.id != change_id for record in records):
                    return True
        return False
