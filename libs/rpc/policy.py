"""How the pipeline treats one method: what a service says of it when it registers its servicer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Validator = Callable[[Any], None]
"""Takes the parsed request; raises ``InvalidArgument``, naming the fields, for one that no state could make right."""


@dataclass(frozen=True, slots=True)
class Policy:
    """``validator`` sees every message of the request before the servicer does.

    ``max_in_flight`` bounds the calls of this method that are under way in one process (None: only the server's own
    bound). ``default_deadline_s`` replaces the server's default for calls that bring none. ``endless`` marks a stream
    that ends only when somebody ends it (a watch): its default deadline is the stream's, and a server that stops ends
    it at once, with UNAVAILABLE, so that the caller resumes at another.
    """

    validator: Validator | None = None
    max_in_flight: int | None = None
    default_deadline_s: float | None = None
    endless: bool = False


DEFAULT = Policy()
