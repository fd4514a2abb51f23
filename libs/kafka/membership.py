"""A member of a consumer group: it learns which partitions of a topic are its own to lead, and reads nothing.

Only who leads is asked of the group. A member that stands still for longer than the session timeout is given up by the
brokers, and others have its partitions; it hears of that when it moves again. So leading is never proof that nobody
else leads: what must not be done twice needs fencing (transactions.py).
"""

import asyncio
import threading
from collections.abc import Callable, Sequence

import confluent_kafka
from confluent_kafka import KafkaError, TopicPartition

from libs.errors.errors import WellspringError
from libs.kafka.errors import AccessRefused, SessionRefused
from libs.kafka.hearing import Hearing
from libs.kafka.logs import log
from libs.kafka.options import Options

_POLL_S = 0.1
_LONGEST_POLL_MS = 60_000
"""A member whose thread is stuck leaves after this. So long brokers wait, too, for one that lives and does not join
when they divide the partitions anew, and a member waits for their answer: the library has one name for all three."""


class Membership:
    """To be closed, which gives the partitions to others at once. `session_s`: others have them when this one was not
    heard of for so long; the brokers bound it (group.min.session.timeout.ms, 6 s by default)."""

    def __init__(self, options: Options, group: str, topic: str, session_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._session_s = session_s
        self._heard = Hearing()
        self._consumer = confluent_kafka.Consumer(
            {
                **options.settings(),
                "group.id": group,
                "session.timeout.ms": int(session_s * 1000),
                "heartbeat.interval.ms": max(100, int(session_s * 250)),
                "max.poll.interval.ms": max(_LONGEST_POLL_MS, int(session_s * 1000)),
                "partition.assignment.strategy": "cooperative-sticky",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "latest",
                "error_cb": self._heard,
            }
        )
        self._ending = threading.Event()
        self.own: set[int] = set()
        self.changed = asyncio.Event()
        """Set at each change of `own`, and when the brokers refuse."""
        self.refusal: WellspringError | None = None
        self._topic = topic
        self._thread = threading.Thread(target=self._run, name="kafka-membership", daemon=True)
        self._thread.start()

    async def leads(self, partition: int) -> None:
        """Returns when the partition is this member's. Raises AccessRefused, SessionRefused."""
        await self._until(lambda: partition in self.own)

    async def lost(self, partition: int) -> None:
        """Returns when the partition is not this member's any more. Raises AccessRefused, SessionRefused."""
        await self._until(lambda: partition not in self.own)

    async def close(self) -> None:
        """Leaves the group."""
        self._ending.set()
        await asyncio.to_thread(self._thread.join)

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            if self.refusal is not None:
                raise self.refusal
            self.changed.clear()
            await self.changed.wait()

    # -- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        self._consumer.subscribe(
            [self._topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked
        )
        while not self._ending.is_set():
            message = self._consumer.poll(_POLL_S)
            error = None if message is None else message.error()
            if error is not None:
                self._failed(error)
            standing = self._heard.standing()
            if isinstance(standing, AccessRefused):
                self._refused(standing)
        self._consumer.close()

    def _assigned(self, consumer: confluent_kafka.Consumer, partitions: Sequence[TopicPartition]) -> None:
        given = list(partitions)
        consumer.incremental_assign(given)
        consumer.pause(given)
        numbers = {one.partition for one in given}
        self._tell(lambda: self._hold(self.own | numbers))

    def _revoked(self, consumer: confluent_kafka.Consumer, partitions: Sequence[TopicPartition]) -> None:
        numbers = {one.partition for one in partitions}
        self._tell(lambda: self._hold(self.own - numbers))

    def _failed(self, error: KafkaError) -> None:
        if error.code() == KafkaError.INVALID_SESSION_TIMEOUT:
            refusal: WellspringError = SessionRefused(
                f"the Kafka brokers do not allow a session timeout of {self._session_s:g} s: see their"
                " group.min.session.timeout.ms and group.max.session.timeout.ms"
            )
        else:
            refusal = self._heard.why(error, self._topic)
            if not isinstance(refusal, AccessRefused):
                log.warning("the group of %s is not reached now: %s", self._topic, error.name())
                return
        self._refused(refusal)

    def _refused(self, why: WellspringError) -> None:
        self._tell(lambda: self._refuse(why))

    def _tell(self, call: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:
            self._ending.set()  # the loop has ended, and with it whoever asked

    # -- the loop -----------------------------------------------------------------------------------------------------

    def _hold(self, own: set[int]) -> None:
        self.own = own
        self.changed.set()

    def _refuse(self, why: WellspringError) -> None:
        self.refusal = why
        self.changed.set()
