"""The sweep of one view: what the engine believes of each output against what the store has, and a share of the caches.

The engine, the store and the caches are not read in one moment. So a difference counts only when the engine says the
same of the page after the store was read a second time, strongly: settled, of the same version and hash. A render that
came in between changes the version, one under way makes the page pending; either way the page is left to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from services.propagation.auditor.addressing import PageAddress, ViewAddresses
from services.propagation.auditor.judging import Expected, Finding, Verdict, compare, is_plain
from services.propagation.auditor.looks import Looks
from services.propagation.auditor.pace import Pace
from services.propagation.auditor.ports import NEVER, Engine, Output, OutputPage, Pages, StoredPage
from services.propagation.auditor.repairs import Repairs
from services.propagation.auditor.reservoir import Reservoir
from services.propagation.auditor.turn import Tally
from services.propagation.executor.hashing import GONE

CHUNK = 32
"""Pages read from the store at once: at most 32 MiB of them, but for those in chunks."""
_PENDING, _DEAD, _RETRY = 1, 2, 4


@dataclass(frozen=True, slots=True)
class _Found:
    """An output that differs, and what is stored of it."""

    output: Output
    finding: Finding
    stored: StoredPage | None


@dataclass(slots=True)
class OutputSweep:
    """What a sweep of outputs works with. `pool` is offered every settled page."""

    engine: Engine
    pages: Pages
    looks: Looks
    repairs: Repairs
    pool: Reservoir[tuple[str, str]]
    pace: Pace
    rng: Random
    cache_share: float
    page_size: int

    async def part(self, view: ViewAddresses, token: str) -> tuple[Tally, str]:
        """Sweeps one page of the list from `token` on: what was counted, and the next token (empty at the end).

        Raises the SDK's errors; nothing is counted then.
        """
        tally = Tally()
        listed = await self.engine.outputs(view.name, token, self.page_size)
        suspects: list[Output] = []
        stale: list[tuple[Output, PageAddress, Expected]] = []
        for start in range(0, len(listed.outputs), CHUNK):
            chunk = listed.outputs[start : start + CHUNK]
            await self.pace.take(len(chunk))
            settled = [output for output in chunk if self._settled(output, tally)]
            await self._compare(view, settled, tally, suspects, stale)
        if suspects or stale:
            await self._confirm(view, token, suspects, stale, tally)
        return tally, listed.next_token

    def _settled(self, output: Output, tally: Tally) -> bool:
        """Whether the page is to be judged; others are counted as what they are."""
        tally.counts["pages"] += 1
        if output.state & _DEAD:
            tally.counts["dead_letters"] += 1
        elif output.state & _RETRY:
            tally.counts["retrying"] += 1
        elif output.state & _PENDING:
            tally.counts["pending"] += 1
        elif output.hash == NEVER:
            tally.counts["never_rendered"] += 1
        else:
            return True
        return False

    async def _compare(
        self,
        view: ViewAddresses,
        settled: Sequence[Output],
        tally: Tally,
        suspects: list[Output],
        stale: list[tuple[Output, PageAddress, Expected]],
    ) -> None:
        addresses = [view.of(output.resource) for output in settled]
        stored = await self.pages.fetch(view.namespace, view.item_key, [address.wanted for address in addresses])
        for output, address, page in zip(settled, addresses, stored, strict=True):
            if compare(output, page) is not None:
                suspects.append(output)
                continue
            tally.counts["equal" if page is None or page.hashes is not None else "not_compared"] += 1
            if page is not None:
                self.pool.offer((view.name, output.resource))
            if self.looks.caches and self.rng.random() < self.cache_share:
                expected = Expected(page.version) if page is not None else Expected(output.version, gone=True)
                seen = await self.looks.look(view, address, expected, repair=False)
                tally.counts["looked_at_in_caches"] += 1
                for look in seen:
                    tally.counts[f"cache_{look.verdict.value}"] += look.verdict is not Verdict.STALE
                if any(look.verdict is Verdict.STALE for look in seen):
                    stale.append((output, address, expected))

    async def _confirm(
        self,
        view: ViewAddresses,
        token: str,
        suspects: Sequence[Output],
        stale: Sequence[tuple[Output, PageAddress, Expected]],
        tally: Tally,
    ) -> None:
        """Reads again, strongly, and asks the engine again; what then still differs is found, and repaired."""
        found: list[_Found] = []
        for start in range(0, len(suspects), CHUNK):
            chunk = suspects[start : start + CHUNK]
            wanted = [view.of(output.resource).wanted for output in chunk]
            stored = await self.pages.fetch(view.namespace, view.item_key, wanted, strong=True)
            for output, page in zip(chunk, stored, strict=True):
                finding = compare(output, page)
                if finding is not None:
                    found.append(_Found(output, finding, page))
                else:
                    tally.counts["equal"] += 1
        again = _same(await self.engine.outputs(view.name, token, self.page_size))
        sure = [one for one in found if one.output in again]
        tally.counts["moved"] += len(found) - len(sure)
        for one in sure:
            there = one.stored.version.hex() if one.stored is not None else "none"
            believed = "gone" if one.output.hash == GONE else one.output.version.hex()
            tally.found(one.finding, view.name, one.output.resource, f"engine {believed}, store {there}")
        for output, address, expected in stale:
            if output in again:
                await self._repair_caches(view, address, expected, tally)
        # Last: what could fail after it would have the part swept again, with its repairs under way and not counted.
        await self._repair(view, sure, tally)

    async def _repair(self, view: ViewAddresses, sure: Sequence[_Found], tally: Tally) -> None:
        """Renders anew what can be: first what would stay above every render is put out of the way."""
        names: list[str] = []
        if sure and await self.repairs.ready():
            newest = await self.engine.newest()
            for one in sure:
                if one.stored is not None and is_plain(one.stored.version):
                    address = view.of(one.output.resource)
                    await self.pages.remove(view.namespace, view.item_key, address.wanted.record)
                    # Its version is above those that purges name: without a minimum.
                    tally.counts["cache_not_repaired"] += not await self.looks.forget(address)
                elif one.stored is not None and one.stored.version > newest:
                    what = f"the engine is at {newest.hex()}: nothing that it renders would be newer"
                    tally.example("above_the_engine", view.name, one.output.resource, what)
                    continue
                names.append(one.output.resource)
        kinds = sorted({one.finding.value for one in sure})
        sent = await self.repairs.rerender(view.name, names, f"audit: {', '.join(kinds)}")
        tally.counts["repaired"] += sent
        tally.counts["not_repaired"] += len(sure) - sent

    async def _repair_caches(self, view: ViewAddresses, address: PageAddress, expected: Expected, tally: Tally) -> None:
        """Looks once more, now with repair: a purge that was only late has arrived meanwhile."""
        for look in await self.looks.look(view, address, expected):
            if look.verdict is not Verdict.STALE:
                continue
            tally.counts["cache_stale"] += 1
            tally.example("cache_stale", look.cache, address.resource, f"{look.url} at {look.at}")
            if look.repaired is not None:
                tally.counts["cache_repaired" if look.repaired else "cache_not_repaired"] += 1


def _same(page: OutputPage) -> set[Output]:
    return set(page.outputs)
