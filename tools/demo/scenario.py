"""The main job, step by step, on a running platform: import, warm the cache, edit, watch, prove, edit without effect.

Every figure is measured: counts come from the services' own answers, the verdict from a judge that asks none of them.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

from examples.wiki import dump
from tools.demo import checker, wiki
from wellspring.propagation.v1 import propagation_pb2
from wellspring_client import aio
from wellspring_client.errors import NotFound
from wellspring_client.storage_types import Put

READERS = 16
POLL_S = 0.2
QUIET_TIMEOUT_S = 600.0


class DemoFailed(Exception):
    """The demo cannot go on; the text says what was expected and what came."""


@dataclass
class Result:
    """What happened, in the words of the report."""

    pages: int = 0
    edges: int = 0
    dependents: int = 0
    rendered: int = 0
    unchanged: int = 0
    purged: int = 0
    stale: int = 0
    lost: int = 0
    touched: int = 0
    seconds: float = 0.0
    template: str = ""
    estimate: dict[str, Any] = field(default_factory=dict)
    steps: dict[str, float] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        """Every dependent is fresh, none is lost, nothing else was touched."""
        return not (self.stale or self.lost or self.touched)

    def summary(self) -> dict[str, Any]:
        """The one object that a machine reads."""
        names = ("pages", "edges", "dependents", "rendered", "unchanged", "purged", "stale", "lost", "seconds")
        return {name: getattr(self, name) for name in names}

    def everything(self) -> dict[str, Any]:
        """The summary and what lies behind it."""
        return asdict(self)


Tell = Callable[[str], None]
OnProgress = Callable[[propagation_pb2.Root], None]
OnWait = Callable[[int, int], None]


class Scenario:
    """One run. `tell` hears a line for each step, `on_progress` the edit's progress as it goes, `on_wait` how many of
    the imported pages are through, and of how many.
    """

    def __init__(
        self,
        addresses: Mapping[str, str],
        export: Path,
        *,
        tell: Tell,
        on_progress: OnProgress = lambda root: None,
        on_wait: OnWait = lambda done, total: None,
    ) -> None:
        self._addresses = addresses
        self._export = export
        self._tell = tell
        self._on_progress = on_progress
        self._on_wait = on_wait
        self._client = aio.connect(
            storage=addresses["storage"],
            session=addresses["session"],
            propagation=addresses["propagation"],
            timeout=60.0,
        )
        self._http = f"http://{addresses['http']}"
        self._began = time.monotonic()
        self.result = Result()

    async def run(self) -> Result:
        """All the steps. Raises DemoFailed, DumpError, the SDK's errors."""
        async with self._client, aiohttp.ClientSession() as reader:
            self._reader = reader
            census = self._census()
            await self._import()
            before = await self._read_all(census.titles)
            self._step(f"read {len(before)} pages through the gateway: its cache is warm")
            template = max(census.calls, key=lambda name: (census.calls[name], name))
            dependents = census.users[template]
            self.result.template, self.result.dependents = template, len(dependents)
            editor = await self._log_in()
            marker = f"wellspring-demo-{secrets.token_hex(8)}"
            purged = await self._metric("wellspring_gateway_purged_total")
            root = await self._edit(template, _text(marker), editor)
            self.result.rendered = root.progress.changed
            self.result.purged = round(await self._metric("wellspring_gateway_purged_total") - purged)
            after = await self._read_all([*before])
            self._judge(before, after, dependents, marker)
            await self._edit_without_effect(template, marker, editor, after)
        self.result.seconds = round(time.monotonic() - self._began, 2)
        return self.result

    def _census(self) -> checker.Census:
        census = checker.census(checker.read_export(self._export))
        self._step(f"the judge counts {len(census.titles)} pages and {len(census.users)} templates in the export")
        return census

    async def _import(self) -> None:
        storage = self._client.storage
        await storage.create_namespace(wiki.PAGES, description="rendered pages")
        await storage.create_namespace(wiki.SOURCES, resource_prefix=wiki.PREFIX, description="wikitext")
        pages = [(wiki.record(page.title), page.text) for page in dump.read(self._export)]
        receipts = await storage.namespace(wiki.SOURCES).put_many(
            ((record, Put(text.encode(), content_type=wiki.WIKITEXT)) for record, text in pages),
            annotations={"cause": "import"},
        )
        for (record, _), receipt in zip(pages, receipts, strict=True):
            if isinstance(receipt, Exception):
                raise DemoFailed(f"the page {record} could not be stored: {receipt}")
        self.result.pages = len(pages)
        self._step(f"imported {len(pages)} pages")
        await self._quiet([receipt.change_id for receipt in receipts if not isinstance(receipt, Exception)])
        status = await self._client.propagation.admin.status()
        self.result.edges = status.edges
        self._step(f"every page is rendered; {status.edges} dependencies were declared on the way")

    async def _quiet(self, change_ids: list[str]) -> None:
        """Waits until these changes have all arrived and all that they reach is rendered."""
        async with asyncio.timeout(QUIET_TIMEOUT_S):
            waiting = set(change_ids)
            while waiting:
                waiting = {one for one in waiting if not await self._finished(one)}
                self._on_wait(len(change_ids) - len(waiting), len(change_ids))
                if waiting:
                    await asyncio.sleep(POLL_S)

    async def _finished(self, change_id: str) -> bool:
        root = await self._root(change_id)
        if root is None:
            return False
        if root.state == propagation_pb2.Root.STATE_DONE_WITH_FAILURES:
            raise DemoFailed(f"{root.progress.failed} pages could not be rendered: wellspring propagation dead-letters")
        return root.state == propagation_pb2.Root.STATE_DONE or bool(root.superseded_by)

    async def _root(self, change_id: str) -> propagation_pb2.Root | None:
        try:
            return await self._client.propagation.get_change(change_id)
        except NotFound:
            return None

    async def _arrival(self, change_id: str) -> None:
        """Waits until the change has come from the store's feed."""
        while True:
            if await self._root(change_id) is not None:
                return
            await asyncio.sleep(POLL_S / 10)

    async def _log_in(self) -> str:
        realm = self._client.session.realm("web")
        minted = await realm.create("demo-editor", level=1, methods=["pwd"])
        validated = await realm.validate(minted.token)
        self._step("an editor has logged in; the service knows them by a pseudonym")
        return validated.session.subject

    async def _edit(self, template: str, text: bytes, editor: str) -> propagation_pb2.Root:
        title = f"Template:{template}"
        estimate = await self._client.propagation.estimate(wiki.resource(title), aspects=["content", "existence"])
        counts = {view.view: view.dependents for view in estimate.views}
        self.result.estimate = {**counts, "transitive": estimate.transitive}
        self._step(f"before the edit of {title}: it will touch {sum(counts.values())} pages")
        receipt = await self._client.storage.namespace(wiki.SOURCES).put(
            wiki.record(title), text, content_type=wiki.WIKITEXT, annotations={"cause": "edit", "causer": editor}
        )
        root = await self._follow(receipt.change_id)
        self._step(f"the edit is through: {root.progress.changed} pages changed, {root.progress.unchanged} did not")
        return root

    async def _follow(self, change_id: str) -> propagation_pb2.Root:
        async with asyncio.timeout(QUIET_TIMEOUT_S):
            await self._arrival(change_id)
            last: propagation_pb2.Root | None = None
            async for root in self._client.propagation.watch_change(change_id, interval_s=0.1):
                self._on_progress(root)
                last = root
        if last is None or last.state != propagation_pb2.Root.STATE_DONE:
            state = "nothing" if last is None else propagation_pb2.Root.State.Name(last.state)
            raise DemoFailed(f"the edit ended as {state}, not as STATE_DONE")
        return last

    def _judge(
        self, before: Mapping[str, bytes], after: Mapping[str, bytes], dependents: frozenset[str], marker: str
    ) -> None:
        verdict = checker.verify(before, after, dependents, marker.encode())
        self.result.stale = len(verdict.stale)
        self.result.lost = len(verdict.lost)
        self.result.touched = len(verdict.touched)
        fresh = len(dependents) - len(verdict.stale) - len(verdict.lost)
        self._step(
            f"the judge read every page again: {fresh} of {len(dependents)} dependents are fresh, "
            f"{len(verdict.stale)} stale, {len(verdict.lost)} lost, {len(verdict.touched)} others touched"
        )

    async def _edit_without_effect(self, template: str, marker: str, editor: str, before: Mapping[str, bytes]) -> None:
        purged = await self._metric("wellspring_gateway_purged_total")
        root = await self._edit(template, _text(marker), editor)
        self.result.unchanged = root.progress.unchanged
        more = round(await self._metric("wellspring_gateway_purged_total") - purged)
        after = await self._read_all([*before])
        if more or root.progress.changed or after != before:
            raise DemoFailed(f"an edit without effect changed {root.progress.changed} pages and purged {more}")
        self._step(f"the same text again: {root.progress.unchanged} renders were cut off, nothing was purged")

    async def _read_all(self, titles: Sequence[str]) -> dict[str, bytes]:
        """Bodies as served, by title; a page that is not served is left out, which the judge calls lost."""
        gate = asyncio.Semaphore(READERS)
        bodies: dict[str, bytes] = {}

        async def read(title: str) -> None:
            async with gate, self._reader.get(URL(self._http + wiki.path(title), encoded=True)) as answer:
                if answer.status == 200:
                    bodies[title] = await answer.read()

        await asyncio.gather(*map(read, titles))
        return bodies

    async def _metric(self, name: str) -> float:
        async with self._reader.get(f"{self._http}/metrics") as answer:
            for line in (await answer.text()).splitlines():
                if line.startswith(f"{name} "):
                    return float(line.split()[1])
        raise DemoFailed(f"the gateway has no metric {name}")

    def _step(self, text: str) -> None:
        seconds = round(time.monotonic() - self._began, 2)
        self.result.steps[text] = seconds
        self._tell(f"{seconds:7.2f} s  {text}")


def _text(marker: str) -> bytes:
    """The template's new wikitext: what every page that uses it will show."""
    return f"{{{{{{title|}}}}}} <small>({marker})</small><noinclude>Made by the demo.</noinclude>".encode()
