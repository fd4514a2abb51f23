"""How a command fails: one sentence on standard error, an exit status with a meaning, and never a stack.

The statuses are part of the interface (`wellspring --help` prints them). Those from 65 on are of sysexits.h.
"""

import json
import os
import traceback
from typing import IO, Any, Final

import click

from wellspring_client import errors

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
CONFLICT: Final = 4
BAD_DATA: Final = 65
UNAVAILABLE: Final = 69
MISTAKE_OF_OURS: Final = 70
DENIED: Final = 77
CONFIGURATION: Final = 78
INTERRUPTED: Final = 130

MEANINGS: Final = {
    OK: "done",
    FAILED: "not done; the message says why",
    USAGE: "the command line, or a request, is wrong",
    NOT_FOUND: "what was named is not there",
    CONFLICT: "it is there already, or was changed by somebody else",
    BAD_DATA: "a file that was given is damaged or of another kind",
    UNAVAILABLE: "a service does not answer",
    MISTAKE_OF_OURS: "a mistake in Wellspring itself",
    DENIED: "the caller may not do this",
    CONFIGURATION: "the platform cannot start as it is configured: a port, a directory, a file",
    INTERRUPTED: "interrupted (Ctrl-C)",
}
TRACE_VARIABLE: Final = "WELLSPRING_TRACE"
"""Set to anything, it lets the stack of an unforeseen error be seen."""
JSON_KEY: Final = "wellspring.json"
"""In the context's meta: whether the command answers to a machine."""

_BY_TYPE: Final = {
    "wellspring_client.errors.NotFound": NOT_FOUND,
    "wellspring_client.errors.AlreadyExists": CONFLICT,
    "wellspring_client.errors.Aborted": CONFLICT,
    "wellspring_client.errors.FailedPrecondition": CONFLICT,
    "wellspring_client.errors.InvalidRequest": USAGE,
    "wellspring_client.errors.OutOfRange": USAGE,
    "wellspring_client.errors.Unavailable": UNAVAILABLE,
    "wellspring_client.errors.DeadlineExceeded": UNAVAILABLE,
    "wellspring_client.errors.SessionInvalid": FAILED,
    "wellspring_client.errors.Unauthenticated": DENIED,
    "wellspring_client.errors.PermissionDenied": DENIED,
    "wellspring_client.errors.WellspringError": FAILED,
    "tools.platform.platform.PlatformError": CONFIGURATION,
    "tools.platform.data_directory.DataDirectoryError": CONFIGURATION,
    "tools.platform.site.SiteError": CONFIGURATION,
    "tools.dev.servers.process.ServerError": FAILED,
    "tools.demo.scenario.DemoFailed": FAILED,
    "tools.demo.sample.SampleMissing": CONFIGURATION,
    "examples.wiki.dump.DumpError": BAD_DATA,
    "examples.wiki.titles.InvalidTitle": BAD_DATA,
}
"""By name: no command loads what only another one needs."""


class Failure(click.ClickException):
    """A sentence for the user and an exit status. `reason` is a word for programs, where there is one."""

    as_json = False
    """Whether it is told to a program."""

    def __init__(self, message: str, exit_code: int = FAILED, reason: str = "") -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click reads it from the instance, and documents that.
        self.reason = reason

    def show(self, file: IO[Any] | None = None) -> None:
        """Writes the sentence to standard error; one object when the command answers to a machine."""
        if self.as_json:
            told = {"error": self.message, "reason": self.reason, "exit": self.exit_code}
            click.echo(json.dumps(told, ensure_ascii=False), file=file, err=True)
        else:
            click.echo(f"{click.style('error:', fg='red')} {self.message}", file=file, err=True)


def failure_of(error: Exception) -> Failure:
    """What an error means to the user."""
    kinds = (f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__)
    code = next((_BY_TYPE[kind] for kind in kinds if kind in _BY_TYPE), None)
    if code is not None:
        return Failure(_sentence(error), code, getattr(error, "reason", ""))
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return Failure(f"{where}{error.strerror or type(error).__name__}", FAILED)
    if isinstance(error, TimeoutError):
        return Failure("it did not end in time", FAILED)
    if isinstance(error, ValueError) and _ours(error):
        return Failure(str(error), USAGE)
    if TRACE_VARIABLE in os.environ:
        traceback.print_exception(error)
    return Failure(
        f"a mistake in Wellspring itself ({type(error).__name__}); with {TRACE_VARIABLE}=1 the command shows where",
        MISTAKE_OF_OURS,
    )


def _sentence(error: Exception) -> str:
    if not isinstance(error, errors.WellspringError):
        return str(error)
    fields = "; ".join(f"{path}: {what}" for path, what in error.violations if what not in error.message)
    text = f"{error.message} ({fields})" if fields else error.message
    if isinstance(error, errors.Unavailable):
        # What gRPC says of each attempt is for the log of a program.
        text = text.partition("? (")[0] + "?" if "? (" in text else text
        return f"{text} · `wellspring doctor` says what runs, `wellspring up` starts the services"
    return text


def _ours(error: ValueError) -> bool:
    """Whether the SDK raised it for an argument, which is then the user's."""
    frame = error.__traceback__
    last = None
    while frame is not None:
        last = frame.tb_frame.f_globals.get("__name__", "")
        frame = frame.tb_next
    return str(last).startswith("wellspring_client")
