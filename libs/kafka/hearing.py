"""What the connections of a client tell of themselves: kept, and logged when it is something new."""

from confluent_kafka import KafkaError

from libs.errors.errors import Unavailable, WellspringError
from libs.kafka.errors import AccessRefused, refusal_of, translate
from libs.kafka.logs import log


class Hearing:
    """Called by the library's threads."""

    def __init__(self) -> None:
        self.fatal = False
        self._logged: int | None = None
        self.refusal: AccessRefused | None = None
        """What the brokers say of the login, as long as nothing else was heard since."""
        self._standing: WellspringError | None = None

    def __call__(self, error: KafkaError) -> None:
        """The library's `error_cb`."""
        code = error.code()
        self.fatal = self.fatal or error.fatal()
        refusal = refusal_of(error)
        if refusal is not None:
            self.refusal = self._standing = refusal
        elif code == KafkaError._ALL_BROKERS_DOWN:
            # Follows whatever ended the last connection, and says nothing of why.
            self._standing = self.refusal or translate(error)
            return
        else:
            self.refusal = None
        if code != self._logged:
            log.warning("Kafka: %s", error.str())
            self._logged = code

    def standing(self) -> WellspringError | None:
        """Why nothing works at all, once for each time that it was told."""
        found, self._standing = self._standing, None
        return found

    def why(self, error: KafkaError, topic: str = "", *, write: bool = False) -> WellspringError:
        """The error of a call. One to brokers that refuse the login only runs out of time, and a message that waits
        for a login never left: then it is what the connections told."""
        found = translate(error, topic, write=write)
        if self.refusal is not None and isinstance(found, Unavailable) and not error.fatal():
            return AccessRefused(self.refusal.message)
        return found
