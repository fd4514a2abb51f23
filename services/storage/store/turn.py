"""One step of the event loop: mutations read, decided and written as one batch, whose disk is waited for afterwards.

Each mutation is decided for itself, and a second one of the same record sees the first.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from libs.errors.errors import WellspringError
from services.storage.domain.decide import Decision, decide
from services.storage.domain.errors import NamespaceNotFound, TokenReused
from services.storage.domain.model import Command, Cost, Outcome, Receipt
from services.storage.domain.namespace import Namespace
from services.storage.domain.versions import check_drift
from services.storage.store import columns, layout, runs
from services.storage.store.alike import Alike
from services.storage.store.families import Operation, fill
from services.storage.store.flat import TOKEN, FlatPuts, Lane, token_row
from services.storage.store.interface import Write
from services.storage.store.ledger import Account, usage_key
from services.storage.store.record import StoredRecord

if TYPE_CHECKING:
    from services.storage.store.writer import Writer

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


class Turn:
    """One step of the loop: mutations decided one after the other, and the batch that holds what they write."""

    def __init__(self, writer: "Writer") -> None:
        self._writer = writer
        self._now_us = now_us = writer.clock_us()
        self._kv: Any = writer.kv
        self._batch: Any = self._kv.batch()
        self._flat = FlatPuts(writer.families, now_us)
        self._grows = False
        self._touched: set[bytes] = set()
        self._before: set[bytes] = set()  # places that this turn's batches before this one touched
        self._accounts: dict[int, Account] = {}
        self._waits: Any = None

    @property
    def durable(self) -> Any:
        """What is done when the last of its batches is durable; None when it wrote nothing."""
        return self._waits

    def run(self, writes: Sequence[Write], plan: Planner | None = None) -> list[Receipt | WellspringError]:
        """The answers, once :meth:`finish` has waited for them to be durable."""
        if isinstance(writes, Alike):
            return self._run_alike(writes)
        families = self._writer.families
        lanes, places, tokens = self._keys(writes)
        record_rows = families.records.get_many(places) if len(places) > 1 else [families.records.get(places[0])]
        token_rows = self._remembered(writes, lanes, tokens)
        results: list[Receipt | WellspringError] = []
        pending: list[int] = []
        touched, before = self._touched, self._before
        for index, write in enumerate(writes):
            place, row, token_row = places[index], record_rows[index], token_rows[index]
            if place in touched:
                self._submit(results, pending)
            if place in before:
                row, token_row = families.records.get(place), runs.remembered(families.tokens, [tokens[index]])[0]
            try:
                results.append(self._one(lanes[index], write.command, place, row, tokens[index], token_row, plan))
                pending.append(index)
                touched.add(place)
            except WellspringError as error:
                results.append(error)
        self._submit(results, pending)
        return results

    async def finish(self) -> None:
        """Waits until all that the answers rest on is durable."""
        settling = self._writer.settling
        if self._waits is None:
            await settling.settle()
        else:
            await settling.wait(self._waits)

    def _run_alike(self, writes: Alike) -> list[Receipt | WellspringError]:
        """As :meth:`run`: in columns what can be, each for itself what is left."""
        lane, records, token = self._lane(writes.namespace), writes.records, writes.token
        places = [lane.prefix + record for record in records]
        head = layout.token_key(lane.number, token.time_us, token.nonce, b"")
        families = self._writer.families
        rows = families.records.get_many(places)
        known: list[bytes | None] = [None] * len(records)
        apart = False
        if token.time_us <= lane.seen_us:
            known = runs.remembered(families.tokens, [head + record for record in records])
            apart = families.tokens.get(head) is not None
        taken: Sequence[Receipt | None] = [None] * len(records)
        if lane.account is not None and lane.first_us <= token.time_us <= lane.last_us:
            taken = columns.take(self._flat, lane, lane.account, writes, places, rows, head, known, apart=apart)
        self._grows = self._grows or any(taken)
        results: list[Receipt | WellspringError] = []
        pending: list[int] = []
        for index, receipt in enumerate(taken):
            try:
                if receipt is None:
                    command = writes[index].command
                    key = head + command.record
                    receipt = self._one(lane, command, places[index], rows[index], key, known[index], None)
                results.append(receipt)
                pending.append(index)
            except WellspringError as error:
                results.append(error)
        self._touched.update(places[index] for index in pending)
        self._submit(results, pending)
        return results

    def _keys(self, writes: Sequence[Write]) -> tuple[list[Lane], list[bytes], list[bytes]]:
        """Of each write its lane, the key of its record and the key of its token."""
        lane: Lane | None = None
        lanes: list[Lane] = []
        places: list[bytes] = []
        tokens: list[bytes] = []
        for namespace, command in writes:
            if lane is None or namespace is not lane.namespace:
                lane = self._lane(namespace)
            record, (time_us, nonce) = command[0], command[1]
            lanes.append(lane)
            places.append(lane.prefix + record)
            tokens.append(layout.token_key(lane.number, time_us, nonce, record))
        return lanes, places, tokens

    def _lane(self, namespace: Namespace) -> Lane:
        number = namespace.number
        if number not in self._writer.catalog.by_number:
            return Lane(namespace, None, self._now_us)
        account = self._accounts[number] = self._writer.ledger.account(number)
        return Lane(namespace, account, self._now_us)

    def _remembered(self, writes: Sequence[Write], lanes: list[Lane], tokens: list[bytes]) -> list[bytes | None]:
        """The rows of the tokens that were seen before this turn. One later than all that were is not looked for."""
        family = self._writer.families.tokens
        asked = [index for index, lane in enumerate(lanes) if writes[index][1][1][0] <= lane.seen_us]
        found: list[bytes | None] = [None] * len(tokens)
        if asked:
            rows = runs.remembered(family, [tokens[index] for index in asked])
            for index, row in zip(asked, rows, strict=True):
                found[index] = row
        return found

    def _one(
        self,
        lane: Lane,
        command: Command,
        place: bytes,
        row: bytes | None,
        token_key: bytes,
        remembered: bytes | None,
        plan: Planner | None,
    ) -> Receipt:
        """Decides one mutation and adds to the batch what it writes. ``row`` is the record's."""
        if remembered is not None and not command.dry_run:
            return _repeated(parse_token(remembered), command)
        if lane.account is None:
            raise NamespaceNotFound.named(lane.namespace.name)  # it was purged while the request was under way
        if not lane.first_us <= command[1][0] <= lane.last_us:
            check_drift(command.token, self._now_us, lane.namespace.settings.max_clock_drift_us)
        if plan is None:
            done = self._flat.put(lane, lane.account, command, place, row, token_key)
            if done is not None:
                self._grows = True
                return done
        families = self._writer.families
        record = StoredRecord(lane.number, command.record, row, families.items, families.tombs)
        receipt = self._decided(lane.namespace, command, record, lane.account, token_key, plan)
        self._grows = self._grows or plan is not None or bool(command.puts)
        return receipt

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
            due_us = now_us + writer.grace_us
            decision = decide(namespace.settings.mode, record, command, now_us, account.newest, due_us)
        sequence, outcome = 0, Outcome.DRY_RUN
        if not command.dry_run:
            outcome = decision.outcome
            notes = sorted(command.annotations.items()) if command.annotations else ()
            sequence = writer.apply(operations, namespace, record, decision, now_us=now_us, annotations=notes)
            remembered = token_row(command.body, outcome, decision.version, decision.deleted_items, sequence)
            operations.append((writer.families.tokens, token_key, remembered))
            account.newest_token_us = max(account.newest_token_us, command.token.time_us)
            fill(self._batch, operations)
        cost = _cost(record, operations, decision) if command.want_cost else None
        return Receipt(outcome, decision.version, decision.deleted_items, sequence, cost)

    def _submit(self, results: list[Receipt | WellspringError], pending: list[int]) -> None:
        """Applies the batch; its mutations become errors when the store refuses it."""
        self._flat.fill(self._batch)
        if not len(self._batch):
            return
        writer, kv = self._writer, self._kv
        for number, account in self._accounts.items():
            self._batch.put(writer.families.meta, usage_key(number), account.usage_row())
        # Deletes leave tombstones and events, and must go on when there is no room for more.
        self._batch.frees = not self._grows
        try:
            self._waits = kv.submit(self._batch)
            writer.settling.mark(self._touched)
        except WellspringError as error:
            for account in self._accounts.values():
                writer.ledger.reload(account)
            for index in pending:
                results[index] = error
        else:
            for account in self._accounts.values():
                account.wake()
        self._batch = kv.batch()
        self._grows = False
        self._before |= self._touched
        self._touched.clear()
        pending.clear()


def _repeated(token: Token, command: Command) -> Receipt:
    if token.body != command.body:
        raise TokenReused(
            "the token came with another body before; a new mutation needs a new token",
            metadata={"version": token.version.hex()},
        )
    outcome = Outcome.REPEATED if token.outcome is Outcome.APPLIED else token.outcome
    return Receipt(outcome, token.version, token.deleted_items, token.sequence)


def _cost(record: StoredRecord, operations: Iterable[Operation], decision: Decision) -> Cost:
    loaded = [row for row in record.loaded.values() if row is not None]
    written = sum(len(key) + len(value or b"") for _, key, value in operations)
    return Cost(
        sum(map(len, loaded)) + len(record.flat or b""),
        written,
        len(loaded) + (record.flat is not None),
        len(decision.puts) + len(decision.removed),
    )
