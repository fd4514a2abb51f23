"""What a producer hands to the library, and in which order, whatever fails between: over a library that is played."""

import asyncio
import threading
import time

import pytest
from confluent_kafka import KafkaError, KafkaException

from libs.kafka import transactions
from libs.kafka.errors import DeliveryUnknown, Fenced
from libs.kafka.options import Options
from libs.kafka.transactions import TransactionalProducer

PATIENCE_S = 60.0
FENCED = KafkaError(KafkaError._FENCED, "fenced", fatal=True)
STATE = KafkaError(KafkaError._STATE, "no transaction is open")
AWAY = KafkaError(KafkaError._TIMED_OUT, "no coordinator answers", retriable=True)
FAILED = KafkaError(KafkaError._MSG_TIMED_OUT, "timed out", txn_requires_abort=True)


class Message:
    """What the library tells of one."""

    def __init__(self, offset):
        self._offset = offset

    def offset(self):
        return self._offset


class Library:
    """Plays the library's producer. `sent` is all that it was given, `taken` what brokers have.

    `holding`: nothing is acknowledged; `failing`: of what waits nothing is taken, as brokers take nothing behind a gap;
    `room`: so many it takes at once.
    """

    def __init__(self, settings):
        self.sent, self.taken, self.waiting = [], [], []
        self.open = False
        self.holding = False
        self.failing = False
        self.room = 1_000
        self.begun = 0
        self.aborting = self.committing = self.beginning = lambda: None
        self.ends_with = None
        self.calls_back_with = None
        self.turning = threading.Event()

    def init_transactions(self, timeout_s):
        """Nothing was under way."""

    def begin_transaction(self):
        """The next."""
        self.open = True
        self.begun += 1
        self.beginning()

    def produce(self, topic, value, partition, on_delivery):
        """Takes a message."""
        if not self.open:
            raise KafkaException(STATE)
        if len(self.waiting) >= self.room:
            raise BufferError
        self.sent.append(value)
        self.waiting.append((value, on_delivery))

    def poll(self, timeout_s):
        """Delivers what waits."""
        if self.calls_back_with is not None and self.waiting:
            raise SystemError("a callback returned a result with an exception set") from self.calls_back_with
        if self.holding or not self.waiting:
            self.turning.wait(0.005)
            return
        failed, self.failing = self.failing, False
        for value, told in self._all():
            if failed:
                told(FAILED, None)
            else:
                self.taken.append(value)
                told(None, Message(len(self.taken) - 1))

    def commit_transaction(self, timeout_s):
        """Delivers, then ends."""
        self.committing()
        if self.ends_with is not None:
            raise KafkaException(self.ends_with)
        self.holding = False
        self.poll(0)
        self.open = False

    def abort_transaction(self, timeout_s):
        """Nothing that waits is sent."""
        self.aborting()
        if self.ends_with is not None:
            raise KafkaException(self.ends_with)
        self.open = False
        for _, told in self._all():
            told(FAILED, None)

    def flush(self, timeout_s):
        """As at the end."""
        self.poll(0)

    def purge(self):
        """Nothing is left."""

    def _all(self):
        found, self.waiting = self.waiting, []
        return found


@pytest.fixture
def play(monkeypatch):
    """Runs a test's body with a producer and the library below it."""
    made = []

    def library(settings):
        made.append(Library(settings))
        return made[-1]

    monkeypatch.setattr(transactions.confluent_kafka, "Producer", library)

    def run(body, timeout_s=60.0):
        async def main():
            options = Options(("nowhere:1",))
            producer = await TransactionalProducer.open(options, "topic", 0, "name", timeout_s=timeout_s)
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await body(producer, made[0])
            finally:
                await producer.close()

        asyncio.run(main())

    return run


def from_the_thread(loop, call):
    """Has the loop do it, and waits until it has."""
    done = threading.Event()

    def do():
        call()
        done.set()

    loop.call_soon_threadsafe(do)
    assert done.wait(PATIENCE_S)


def test_appends_are_told_in_order_with_their_offsets(play):
    async def body(producer, library):
        told = [await producer.append([b"a"]), await producer.append([b"b", b"c"]), await producer.append([])]
        assert told == [0, 2, -1]
        assert producer.waiting_bytes == 0 and library.taken == [b"a", b"b", b"c"]
        library.holding = True
        behind = [producer.append([b"d"]), producer.append([])]
        await asyncio.sleep(0)
        assert not any(one.done() for one in behind), "what has no records is behind what has"
        library.holding = False
        await asyncio.gather(*behind)

    play(body)


@pytest.mark.parametrize("moment", ["aborting", "beginning"])
def test_what_was_not_acknowledged_is_sent_again_and_nothing_overtakes_it(play, moment):
    async def body(producer, library):
        loop, late = asyncio.get_running_loop(), []
        await producer.append([b"0"])

        def append():
            setattr(library, moment, lambda: None)
            from_the_thread(loop, lambda: late.append(producer.append([b"3"])))

        setattr(library, moment, append)
        library.failing = True
        library.holding = True
        first = [producer.append([b"1"]), producer.append([b"2a", b"2b"])]
        library.holding = False
        assert await asyncio.gather(*first) == [1, 3]
        assert await late[0] == 4
        assert library.taken == [b"0", b"1", b"2a", b"2b", b"3"]
        assert library.begun == 2

    play(body)


def test_what_the_library_has_no_room_for_waits_its_turn(play):
    async def body(producer, library):
        library.room = 3
        each = [producer.append([b"%d.%d" % (at, piece) for piece in range(4)]) for at in range(5)]
        await asyncio.gather(*each)
        assert library.taken == [b"%d.%d" % (at, piece) for at in range(5) for piece in range(4)]

    play(body)


def test_a_transaction_is_renewed_and_what_comes_meanwhile_waits(play, monkeypatch):
    async def body(producer, library):
        loop, late = asyncio.get_running_loop(), []

        def append():
            library.committing = lambda: None
            from_the_thread(loop, lambda: late.append(producer.append([b"late"])))

        library.committing = append
        monkeypatch.setattr(transactions, "RENEW_S", 0.0)
        n = 0
        while not late:
            await producer.append([b"%d" % n])
            n += 1
        monkeypatch.setattr(transactions, "RENEW_S", 1_000.0)
        assert library.taken[await late[0]] == b"late"
        assert [one for one in library.taken if one != b"late"] == [b"%d" % at for at in range(n)]
        assert library.begun >= 2

    play(body)


@pytest.mark.parametrize("where", ["aborted", "committed"])
def test_who_is_fenced_is_told_and_appends_nothing_more(play, monkeypatch, where):
    async def body(producer, library):
        library.holding = True
        waiting = [producer.append([b"1"]), producer.append([b"2"])]
        library.ends_with = FENCED
        if where == "aborted":
            library.failing = True
            library.holding = False
        else:
            monkeypatch.setattr(transactions, "RENEW_S", 0.0)
        for one in waiting:
            with pytest.raises(Fenced, match="writes nothing more"):
                await one
        await producer.failed.wait()
        sent = list(library.sent)
        with pytest.raises(Fenced):
            await producer.append([b"3"])
        assert library.sent == sent and isinstance(producer.failure, Fenced)

    play(body)


@pytest.mark.parametrize(
    ("cause", "told"), [(KafkaException(FENCED), Fenced), (None, DeliveryUnknown), (ValueError(), DeliveryUnknown)]
)
def test_a_fatal_error_that_the_library_told_while_it_called_back_is_told(play, monkeypatch, cause, told):
    escaped = []
    monkeypatch.setattr(threading, "excepthook", escaped.append)

    async def body(producer, library):
        library.calls_back_with = cause
        if cause is None:
            monkeypatch.setattr(library, "poll", refuse)
        with pytest.raises(told):
            await producer.append([b"1"])
        await producer.failed.wait()
        assert isinstance(producer.failure, told)

    def refuse(timeout_s):
        raise SystemError("of nothing that is known")

    play(body)
    assert [type(one.exc_value) for one in escaped] == ([] if told is Fenced else [SystemError])


@pytest.mark.parametrize("where", ["aborting", "committing"])
def test_a_transaction_that_brokers_never_end_is_given_up_when_they_have(play, monkeypatch, where):
    calls = []

    def away():
        calls.append(where)
        time.sleep(0.01)
        raise KafkaException(AWAY)

    async def body(producer, library):
        library.holding = True
        waiting = producer.append([b"1"])
        setattr(library, where, away)
        if where == "aborting":
            library.failing = True
            library.holding = False
        else:
            monkeypatch.setattr(transactions, "RENEW_S", 0.0)
        with pytest.raises(
            DeliveryUnknown, match=r"did not end a transaction of name on the topic topic within 0\.1 s"
        ):
            await waiting
        await producer.failed.wait()
        with pytest.raises(DeliveryUnknown):
            await producer.append([b"2"])
        assert len(calls) > 1 and b"2" not in library.sent

    play(body, timeout_s=0.1)


def test_what_is_under_way_at_the_end_is_waited_for_and_nothing_is_taken_after_it(play):
    async def body(producer, library):
        under_way = producer.append([b"1"])
        await producer.close()
        assert await under_way == 0
        with pytest.raises(DeliveryUnknown):
            await producer.append([b"2"])

    play(body)
