"""Where a view's pages lie: forward from a resource to its record and paths, back from a record to its resource."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from string import Formatter

from services.propagation.auditor.ports import Wanted
from services.propagation.executor.templates import effects_of
from wellspring.propagation.v1 import work_pb2

_DEFAULT_RECORD = "{resource}"


@dataclass(frozen=True, slots=True)
class PageAddress:
    """A page: its record in the store, and where readers find it (paths, or whole URLs where the view names those)."""

    view: str
    resource: str
    wanted: Wanted
    urls: tuple[str, ...]


class ViewAddresses:
    """The addresses of one view's pages."""

    def __init__(self, view: work_pb2.View) -> None:
        self.view = view
        self.name = view.name
        self.namespace = view.store.namespace
        self.item_key = view.store.item_key
        template = view.store.record or _DEFAULT_RECORD
        self._pattern, self._field = _inverse(template)

    def of(self, resource: str) -> PageAddress:
        """The address of a resource's page."""
        effects = effects_of(self.view, resource)
        return PageAddress(self.name, resource, Wanted(effects.record, effects.tags), effects.urls)

    def resources_of(self, record: bytes) -> list[str]:
        """The resources that the view covers and whose page would lie in this record; none for a stranger's."""
        try:
            match = self._pattern.fullmatch(record.decode())
        except UnicodeDecodeError:
            return []
        if match is None:
            return []
        given = match[self._field]
        prefixes = list(self.view.resource_prefixes)
        possible = [given] if self._field == "resource" else [prefix + given for prefix in prefixes]
        return [
            resource
            for resource in dict.fromkeys(possible)
            if any(resource.startswith(prefix) for prefix in prefixes) and self.of(resource).wanted.record == record
        ]


def addresses(views: Sequence[work_pb2.View]) -> dict[str, ViewAddresses]:
    """By name, those views whose pages are rendered and stored here.

    Of those that are taken from another data centre the engine here has no versions that a stored page could be
    compared with: a purge by them would hide every page. They are looked after at home.
    """
    ours = [view for view in views if view.store.namespace and view.render.WhichOneof("kind") != "take"]
    return {view.name: ViewAddresses(view) for view in sorted(ours, key=lambda view: view.name)}


def _inverse(template: str) -> tuple[re.Pattern[str], str]:
    """A pattern that finds in a record what was filled in, and which field it was."""
    pattern, first = "", ""
    for literal, field, _, _ in Formatter().parse(template):
        pattern += re.escape(literal)
        if field is None:
            continue
        if not first:
            first = field
            pattern += f"(?P<{field}>.+)"
        else:
            # Whatever it is: the forward template has the last word.
            pattern += ".+"
    return re.compile(pattern, re.DOTALL), first or "resource"
