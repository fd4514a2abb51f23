"""The one writer of a store: single turns, and what a decision writes.

A mutation, its token's record and its change in the feed are one batch.
"""

from collections.abc import Callable, Iterable, Sequence

from libs.errors.errors import WellspringError
from services.storage.domain import limits
from services.storage.domain.decide import Decision
from services.storage.domain.errors import QuotaExceeded
from services.storage.domain.feed import ChangeEvent
from services.storage.domain.model import Command, Receipt, WriteToken
from services.storage.domain.namespace import Namespace
from services.storage.store import events, layout, runs
from services.storage.store.apply import Application
from services.storage.store.catalog import Catalog
from services.storage.store.families import Families, Operation
from services.storage.store.history import History
from services.storage.store.interface import Write
from services.storage.store.kv import Kv
from services.storage.store.ledger import Account, Ledger
from services.storage.store.record import StoredRecord
from services.storage.store.settling import Settling
from services.storage.store.turn import Planner, Token, Turn, parse_token


class Writer:
    """The one writer of a store."""

    def __init__(
        self,
        kv: Kv,
        families: Families,
        history: History,
        ledger: Ledger,
        catalog: Catalog,
        settling: Settling,
        clock_us: Callable[[], int],
        grace_us: int,
    ) -> None:
        """``grace_us``: how long deletes of LWW namespaces hold off late writes."""
        self.kv = kv
        self.families = families
        self.history = history
        self.ledger = ledger
        self.catalog = catalog
        self.settling = settling
        self.clock_us = clock_us
        self.grace_us = grace_us

    async def mutate(self, writes: Sequence[Write]) -> list[Receipt | WellspringError]:
        """As ``Store.mutate``."""
        turn = Turn(self)
        results = turn.run(writes)
        await turn.finish()
        return results

    async def write_planned(self, namespace: Namespace, command: Command, plan: Planner) -> Receipt:
        """One mutation whose decision comes from ``plan`` instead of from the command's puts and deletes; the
        operations that ``plan`` adds are written with it."""
        turn = Turn(self)
        result = turn.run([Write(namespace, command)], plan)[0]
        await turn.finish()
        if isinstance(result, WellspringError):
            raise result
        return result

    def load(self, number: int, key: bytes) -> StoredRecord:
        """The record as it is now."""
        families = self.families
        row = families.records.get(layout.prefix(number) + key)
        return StoredRecord(number, key, row, families.items, families.tombs)

    def token(self, number: int, record: bytes, token: WriteToken) -> Token | None:
        """What is remembered of a token."""
        key = layout.token_key(number, token.time_us, token.nonce, record)
        row = runs.remembered(self.families.tokens, [key])[0]
        return None if row is None else parse_token(row)

    def apply(
        self,
        operations: list[Operation],
        namespace: Namespace,
        record: StoredRecord,
        decision: Decision,
        *,
        now_us: int,
        annotations: Iterable[tuple[str, str]] = (),
        expiring: bool = False,
        free: bool = False,
    ) -> int:
        """Adds to ``operations`` what a decision writes, with its change in the feed; answers the change's sequence, 0
        without one. Raises QuotaExceeded (unless ``free``) and RangeDeletesExhausted, having changed nothing."""
        applied = Application(
            self.families,
            self.history,
            namespace,
            record,
            decision,
            now_us=now_us,
            grace_us=self.grace_us,
            expiring=expiring,
        )
        account = self.ledger.account(namespace.number)
        quota = namespace.settings.quota
        if (quota.max_bytes or quota.max_records) and not free:
            _check_quota(namespace, account, applied)
        account.records += applied.added_records
        account.items += applied.added_items
        account.size += applied.added_size
        operations += applied.operations
        account.newest = max(account.newest, decision.version)
        if not applied.changes:
            return 0
        account.sequence += 1
        changes = applied.changes
        event = ChangeEvent(
            record.key,
            decision.version,
            tuple(changes[: limits.FEED_ITEMS]),
            len(changes),
            applied.created,
            applied.deleted,
            now_us,
            tuple(annotations),
        )
        key = layout.feed_key(namespace.number, account.sequence)
        operations.append((self.families.feed, key, events.encode(event)))
        return account.sequence


def _check_quota(namespace: Namespace, account: Account, applied: Application) -> None:
    quota = namespace.settings.quota
    for name, limit, used, added in (
        ("max_bytes", quota.max_bytes, account.size, applied.added_size),
        ("max_records", quota.max_records, account.records, applied.added_records),
    ):
        if limit and added > 0 and used + added > limit:
            raise QuotaExceeded(
                f"the namespace {namespace.name!r} holds {used} of quota.{name} {limit}; this write adds {added}",
                metadata={"namespace": namespace.name, "quota": name, "limit": str(limit), "used": str(used)},
            )
