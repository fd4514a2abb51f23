"""Mutations: read, decide, write as one step of the event loop, then wait for the disk.

The mutation, its token's record and its change in the feed are one batch. Several mutations that come together share
one batch and one wait; each is still decided for itself, and a second one of the same record sees the first.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from libs.errors.errors import WellspringError
from services.storage.domain import limits
from services.storage.domain.decide import Decision, decide
from services.storage.domain.errors import NamespaceNotFound, QuotaExceeded, TokenReused
from services.storage.domain.feed import ChangeEvent
from services.storage.domain.model import Command, Cost, Outcome, Receipt, WriteToken
from services.storage.domain.namespace import Namespace
from services.storage.domain.versions import check_drift
from services.storage.store import events, layout
from services.storage.store.apply import Application
from services.storage.store.catalog import Catalog
from services.storage.store.families import Families, Operation, fill
from services.storage.store.flat import TOKEN, put_flat, token_row
from services.storage.store.history import History
from services.storage.store.interface import Write
from services.storage.store.kv import Kv
from services.storage.store.ledger import Account, Ledger, usage_key
from services.storage.store.record import StoredRecord
from services.storage.store.settling import Settling

Planner = Callable[[StoredRecord, list[Operation]], Decision]


class Token(NamedTuple):
    """What is remembered of a mutation."""

    body: bytes
    outcome: Outcome
    version: bytes
    deleted_items: int
    sequence: int


def parse_token(row: bytes) -> Token:
    """The row of a remembered mutation."""
    body, outcome, version, deleted, sequence = TOKEN.unpack(row)
    return Token(body, Outcome(outcome), version, deleted, sequence)


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
        self._kv = kv
        self._families = families
        self._history = history
        self._ledger = ledger
        self._catalog = catalog
        self._settling = settling
        self._clock_us = clock_us
        self._grace_us = grace_us

    async def mutate(self, writes: Sequence[Write]) -> list[Receipt | WellspringError]:
        """As ``Store.mutate``."""
        turn = _Turn(self, self._clock_us())
        results = turn.run(writes)
        await turn.finish()
        return results

    async def write_planned(self, namespace: Namespace, command: Command, plan: Planner) -> Receipt:
        """One mutation whose decision comes from ``plan`` instead of from the command's puts and deletes; the
        operations that ``plan`` adds are written with it."""
        turn = _Turn(self, self._clock_us())
        result = turn.run([Write(namespace, command)], plan)[0]
        await turn.finish()
        if isinstance(result, WellspringError):
            raise result
        return result

    def load(self, number: int, key: bytes) -> StoredRecord:
        """The record as it is now."""
        families = self._families
        row = families.records.get(layout.prefix(number) + key)
        return StoredRecord(number, key, row, families.items, families.tombs)

    def token(self, number: int, record: bytes, token: WriteToken) -> Token | None:
        """What is remembered of a token."""
        row = self._families.tokens.get(layout.token_key(number, token.time_us, token.nonce, record))
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
            self._families,
            self._history,
            namespace,
            record,
            decision,
            now_us=now_us,
            grace_us=self._grace_us,
            expiring=expiring,
        )
        account = self._ledger.account(namespace.number)
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
        operations.append((self._families.feed, key, events.encode(event)))
        return account.sequence


class _Turn:
    """One step of the loop: mutations decided one after the other, and the batch that holds what they write."""

    def __init__(self, writer: Writer, now_us: int) -> None:
        self._writer = writer
        self._now_us = now_us
        self._kv: Any = writer._kv
        self._batch: Any = self._kv.batch()
        self._grows = False
        self._touched: set[bytes] = set()
        self._accounts: dict[int, Account] = {}
        self._all: set[bytes] = set()
        self._waits: Any = None

    def run(self, writes: Sequence[Write], plan: Planner | None = None) -> list[Receipt | WellspringError]:
        """The answers, once :meth:`finish` has waited for them to be durable."""
        families = self._writer._families
        places = [layout.prefix(write.namespace.number) + write.command.record for write in writes]
        tokens = [_token_key(write) for write in writes]
        record_rows = families.records.get_many(places) if len(places) > 1 else [families.records.get(places[0])]
        token_rows = families.tokens.get_many(tokens) if len(tokens) > 1 else [families.tokens.get(tokens[0])]
        results: list[Receipt | WellspringError] = []
        pending: list[int] = []
        for index, write in enumerate(writes):
            record_row, token_row = record_rows[index], token_rows[index]
            place = places[index]
            if place in self._touched:
                self._submit(results, pending)
            if place in self._all:
                record_row, token_row = families.records.get(place), families.tokens.get(tokens[index])
            try:
                receipt = self._one(write, place, record_row, tokens[index], token_row, plan)
                pending.append(index)
                self._grows = self._grows or plan is not None or bool(write.command.puts)
                self._touched.add(place)
                self._all.add(place)
                results.append(receipt)
            except WellspringError as error:
                results.append(error)
        self._submit(results, pending)
        return results

    async def finish(self) -> None:
        """Waits until all that the answers rest on is durable."""
        settling = self._writer._settling
        if self._waits is None:
            await settling.settle()
        else:
            await settling.wait(self._waits, self._all)

    def _one(
        self,
        write: Write,
        place: bytes,
        row: bytes | None,
        token_key: bytes,
        remembered: bytes | None,
        plan: Planner | None,
    ) -> Receipt:
        """Decides one mutation and adds to the batch what it writes. ``row`` is the record's."""
        namespace, command = write
        writer, now_us, number = self._writer, self._now_us, namespace.number
        if remembered is not None and not command.dry_run:
            return _repeated(parse_token(remembered), command)
        if number not in writer._catalog.by_number:
            raise NamespaceNotFound.named(namespace.name)  # it was purged while the request was under way
        check_drift(command.token, now_us, namespace.settings.max_clock_drift_us)
        account = self._accounts.get(number)
        if account is None:
            account = self._accounts[number] = writer._ledger.account(number)
        families = writer._families
        if plan is None:
            done = put_flat(self._batch, families, namespace, command, place, row, token_key, account, now_us)
            if done is not None:
                return done
        record = StoredRecord(number, command.record, row, families.items, families.tombs)
        return self._decided(namespace, command, record, account, token_key, plan)

    def _decided(
        self,
        namespace: Namespace,
        command: Command,
        record: StoredRecord,
        account: Account,
        token_key: bytes,
        plan: Planner | None,
    ) -> Receipt:
        writer, now_us = self._writer, self._now_us
        if len(command.puts) > 1:
            record.preload([put.key for put in command.puts])
        record.keep_rows = namespace.settings.retention.keeps_past
        operations: list[Operation] = []
        if plan is not None:
            decision = plan(record, operations)
        else:
            due_us = now_us + writer._grace_us
            decision = decide(namespace.settings.mode, record, command, now_us, account.newest, due_us)
        sequence, outcome = 0, Outcome.DRY_RUN
        if not command.dry_run:
            outcome = decision.outcome
            notes = sorted(command.annotations.items()) if command.annotations else ()
            sequence = writer.apply(operations, namespace, record, decision, now_us=now_us, annotations=notes)
            remembered = token_row(command.body, outcome, decision.version, decision.deleted_items, sequence)
            operations.append((writer._families.tokens, token_key, remembered))
            fill(self._batch, operations)
        cost = _cost(record, operations, decision) if command.want_cost else None
        return Receipt(outcome, decision.version, decision.deleted_items, sequence, cost)

    def _submit(self, results: list[Receipt | WellspringError], pending: list[int]) -> None:
        """Applies the batch; its mutations become errors when the store refuses it."""
        if not len(self._batch):
            return
        writer, kv = self._writer, self._kv
        for number, account in self._accounts.items():
            self._batch.put(writer._families.meta, usage_key(number), account.usage_row())
        # Deletes leave tombstones and events, and must go on when there is no room for more.
        self._batch.frees = not self._grows
        try:
            self._waits = kv.submit(self._batch)
            writer._settling.mark(self._touched)
        except WellspringError as error:
            for account in self._accounts.values():
                writer._ledger.reload(account)
            for index in pending:
                results[index] = error
        else:
            for account in self._accounts.values():
                account.wake()
        self._batch = kv.batch()
        self._grows = False
        self._touched.clear()
        pending.clear()


def _token_key(write: Write) -> bytes:
    command = write.command
    return layout.token_key(write.namespace.number, command.token.time_us, command.token.nonce, command.record)


def _repeated(token: Token, command: Command) -> Receipt:
    if token.body != command.body:
        raise TokenReused(
            "the token came with another body before; a new mutation needs a new token",
            metadata={"version": token.version.hex()},
        )
    outcome = Outcome.REPEATED if token.outcome is Outcome.APPLIED else token.outcome
    return Receipt(outcome, token.version, token.deleted_items, token.sequence)


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


def _cost(record: StoredRecord, operations: Iterable[Operation], decision: Decision) -> Cost:
    loaded = [row for row in record.loaded.values() if row is not None]
    written = sum(len(key) + len(value or b"") for _, key, value in operations)
    return Cost(
        sum(map(len, loaded)) + len(record.flat or b""),
        written,
        len(loaded) + (record.flat is not None),
        len(decision.puts) + len(decision.removed),
    )
