"""A mistake in a configuration: where it is, what is there, what is allowed; and the error that lists all of them."""

import dataclasses
import difflib
from collections.abc import Iterable, Sequence

from libs.errors.errors import InvalidArgument


@dataclasses.dataclass(frozen=True, order=True, slots=True)
class Mistake:
    """One mistake. ``source`` is a file, "environment variable X" or "--set x"; ``line`` and ``column`` count from 1
    (0: the source has no lines); ``path`` is the key ("server.workers", "lanes[2].name"), empty for the whole."""

    source: str
    line: int
    column: int
    path: str
    what: str
    allowed: str

    def __str__(self) -> str:
        where = f"{self.source}:{self.line}:{self.column}" if self.line else self.source
        key = f" {self.path}:" if self.path else ""
        return f"{where}:{key} {self.what}" + (f"; {self.allowed}" if self.allowed else "")


class ConfigError(InvalidArgument):
    """A configuration that cannot be used. ``mistakes`` has all of them, by their places; the message one a line."""

    default_reason = "CONFIG_INVALID"

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        self.mistakes = sorted(mistakes)
        count = f"{len(self.mistakes)} mistake{'s' if len(self.mistakes) > 1 else ''} in the configuration"
        super().__init__(
            "\n".join([count + ":", *map(str, self.mistakes)]),
            violations=[(m.path, f"{m.what}; {m.allowed}" if m.allowed else m.what) for m in self.mistakes],
        )


def suggest(word: str, known: Iterable[str]) -> str:
    """'did you mean "x"? ' when something known is near ``word``, and then all that is known."""
    names = list(known)
    near = difflib.get_close_matches(word.lower(), names, n=1, cutoff=0.6)
    listed = ", ".join(names)
    return (f'did you mean "{near[0]}"? ' if near else "") + f"allowed: {listed}"
