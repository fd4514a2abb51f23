"""What the connections of a client tell of themselves: kept, and logged when it is something new."""

from confluent_kafka import KafkaError

from libs.errors.errors import WellspringError
from libs.kafka.errors import explained, translate
from libs.kafka.logs import log

_STANDING = (KafkaError._ALL_BROKERS_DOWN, KafkaError._AUTHENTICATION, KafkaError._SSL)


class Hearing:
    """Called by the library's threads."""

    def __init__(self) -> None:
        self.fatal = False
        self._last: KafkaError | None = None
        self._standing: WellspringError | None = None

    def __call__(self, error: KafkaError) -> None:
        """The library's `error_cb`."""
        if self._last is None or self._last.code() != error.code():
            log.warning("Kafka: %s", error.str())
        self._last = error
        self.fatal = self.fatal or error.fatal()
        if error.code() in _STANDING:
            self._standing = translate(error)

    def standing(self) -> WellspringError | None:
        """Why nothing works at all, once for each time that it was told."""
        found, self._standing = self._standing, None
        return found

    def why(self, error: KafkaError, topic: str = "", *, write: bool = False) -> WellspringError:
        """The error of a call, explained by what was heard."""
        return explained(error, self._last, topic, write=write)
