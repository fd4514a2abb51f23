"""The views in force, and earlier ones that roots under way began with: as the operator wrote them, as messages, and as
the engine knows them.
"""

import dataclasses
from collections.abc import Awaitable, Iterable, Sequence
from typing import Any

from libs.config.config import Mistake
from services.propagation.domain.change import dump, load
from services.propagation.domain.engine import VIEWS_RECORD, Engine, revision_records
from services.propagation.domain.errors import RevisionMismatch
from services.propagation.domain.partition import WHOLE, Part
from services.propagation.domain.views import RetryPolicy, View
from services.propagation.store.interface import Store
from services.propagation.views.parsing import SOURCE, Defaults, mistakes_in, read_views
from wellspring.propagation.v1 import work_pb2


class Catalogue:
    """The views of a store. `messages` carry the revision; `text` is the YAML that they came from."""

    def __init__(self, store: Store, defaults: Defaults, part: Part = WHOLE) -> None:
        """Reads what was put last; the engine is told that its shard has this `part`. Raises ConfigError when this
        version does not take it any more."""
        self._part = part
        self._defaults = defaults
        self._datacentre = defaults.places[0] if defaults.places else ""
        kept = store.get_record(*VIEWS_RECORD)
        plain: dict[str, Any] = load(kept) if kept is not None else {"text": "", "revision": 0}
        self._take(plain["text"], int(plain["revision"]), read_views(plain["text"], defaults, "the views in the store"))
        self._older = {
            revision: self._read_older(revision, load(source)["text"])
            for revision, source in revision_records(store)
            if revision < self.revision
        }

    def _read_older(self, revision: int, text: str) -> list[work_pb2.View]:
        messages = read_views(text, self._defaults, f"the views in the store, revision {revision}")
        for message in messages:
            message.revision = revision
        return messages

    def _take(self, text: str, revision: int, messages: list[work_pb2.View]) -> None:
        self.text = text
        self.revision = revision
        self.messages = messages
        for message in messages:
            message.revision = revision
        self.names = frozenset(message.name for message in messages)

    def views(self) -> list[View]:
        """The views as the engine knows them."""
        return [self._domain(message) for message in self.messages]

    def _domain(self, message: work_pb2.View) -> View:
        return dataclasses.replace(domain_view(message, self._datacentre), part=self._part)

    def older(self) -> dict[int, list[View]]:
        """Those of earlier revisions that are still kept, as the engine knows them."""
        return {revision: [self._domain(message) for message in found] for revision, found in self._older.items()}

    def older_messages(self, engine: Engine) -> list[work_pb2.View]:
        """Of the earlier revisions at work, the views that differ from those in force; each with its revision."""
        kept = engine.shard.views.older
        self._older = {revision: found for revision, found in self._older.items() if revision in kept}
        present = {message.name: _unnumbered(message) for message in self.messages}
        return [
            message
            for _, found in sorted(self._older.items())
            for message in found
            if present.get(message.name) != _unnumbered(message)
        ]

    def for_executors(self, messages: Iterable[work_pb2.View]) -> list[work_pb2.View]:
        """The views as they are worked on here: those of other homes are taken instead of rendered."""
        return [_taken(message) if _elsewhere(message, self._datacentre) else message for message in messages]

    def homed_in(self, datacentre: str) -> list[work_pb2.View]:
        """The views in force that another data centre renders."""
        return [message for message in self.messages if message.home == datacentre]

    def validate(self, text: str) -> tuple[list[work_pb2.View], Sequence[Mistake]]:
        """The views that the text stands for, or the mistakes in it."""
        return mistakes_in(text, self._defaults)

    def put(
        self, engine: Engine, text: str, if_revision: int = 0, *, source: str = SOURCE, revision: int = 0
    ) -> Awaitable[None]:
        """Takes other views, which mistakes name by `source`, as that `revision`; 0: the next one.

        Raises ConfigError with the mistakes, RevisionMismatch when others were put since.
        """
        if if_revision and if_revision != self.revision:
            raise RevisionMismatch(
                f"the views are at revision {self.revision}, not {if_revision}: read them again",
                metadata={"revision": str(self.revision)},
            )
        messages = read_views(text, self._defaults, source)
        views = [self._domain(message) for message in messages]
        revision = revision or self.revision + 1
        durable = engine.put_views(views, revision, dump({"text": text, "revision": revision}))
        if self.revision:
            self._older[self.revision] = self.messages
        self._take(text, revision, messages)
        return durable


def _unnumbered(message: work_pb2.View) -> work_pb2.View:
    plain = work_pb2.View()
    plain.CopyFrom(message)
    plain.revision = 0
    return plain


def _elsewhere(message: work_pb2.View, datacentre: str) -> bool:
    return bool(message.home) and message.home != datacentre


def _taken(message: work_pb2.View) -> work_pb2.View:
    taken = work_pb2.View()
    taken.CopyFrom(message)
    taken.render.take.SetInParent()
    return taken


def domain_view(message: work_pb2.View, datacentre: str = "") -> View:
    """What the engine in `datacentre` needs of a complete view."""
    taken = _elsewhere(message, datacentre)
    return View(
        name=message.name,
        prefixes=tuple(message.resource_prefixes),
        retry=RetryPolicy(
            message.retry.max_attempts,
            message.retry.initial_backoff.ToNanoseconds() / 1e9,
            message.retry.max_backoff.ToNanoseconds() / 1e9,
        ),
        lease_s=message.lease_time.ToNanoseconds() / 1e9,
        settle_s=0.0 if taken else message.settle_delay.ToNanoseconds() / 1e9,
        max_dependencies=message.max_dependencies,
        taken=taken,
    )
