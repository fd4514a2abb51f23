"""A check: something that is true of a platform and must stay true, however its processes end between the phases."""

import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from wellspring_client.errors import DeadlineExceeded, NotFound, Unavailable
from wellspring_client.sync import Client

WAIT_S: Final = 300.0
_EVERY_S: Final = 0.05
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Site:
    """The platform as a check sees it. `client` is a new one in every phase."""

    client: Client
    http: str

    def page(self, path: str) -> tuple[int, Mapping[str, str], bytes]:
        """(status, headers, body) of a page as readers get it."""
        try:
            with urllib.request.urlopen(f"http://{self.http}{path}", timeout=WAIT_S) as answer:
                return answer.status, dict(answer.headers), answer.read()
        except urllib.error.HTTPError as error:
            return error.code, dict(error.headers), error.read()

    def until(self, look: Callable[[], _Value | None]) -> _Value:
        """The first answer of `look` that is not None or False; what is away or not there yet is asked again. Raises
        AssertionError after a minute: what was accepted must come."""
        end = time.monotonic() + WAIT_S
        while True:
            try:
                if found := look():
                    return found
            except (Unavailable, DeadlineExceeded, NotFound):
                pass  # Not yet.
            assert time.monotonic() < end, f"not so within {WAIT_S:.0f} s: {look}"
            time.sleep(_EVERY_S)


class Check(ABC):
    """What a check knows of its own writes it keeps in itself; the platform it asks anew in each phase.

    `initialise` is called once, `manipulate` twice (with 1, then 2), `validate` once at the end, with the processes
    ended as the scenario says between all of them.
    """

    @abstractmethod
    def initialise(self, site: Site) -> None:
        """Makes what the check is about."""

    @abstractmethod
    def manipulate(self, site: Site, turn: int) -> None:
        """Changes it; what was acknowledged is remembered."""

    @abstractmethod
    def validate(self, site: Site) -> None:
        """Raises AssertionError where the platform does not show what was acknowledged."""
