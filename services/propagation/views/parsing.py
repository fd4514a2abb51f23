"""The views file: YAML with a list `views`, each as message View in work.proto says, to complete messages.

Every mistake is found, with its line and column and what is allowed; defaults are filled in here and nowhere else.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from google.protobuf.duration_pb2 import Duration

from libs.config.config import ConfigError, Mistake, gather
from services.propagation.views.checks import Checker
from wellspring.propagation.v1 import propagation_admin_pb2, work_pb2

SOURCE = "views"


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a view has that does not say otherwise, and what it may name; times in seconds."""

    lease_s: float = 60.0
    max_dependencies: int = 10_000
    max_attempts: int = 5
    initial_backoff_s: float = 1.0
    max_backoff_s: float = 300.0
    max_concurrency: int = 16
    render_timeout_s: float = 30.0
    max_output_bytes: int = 8 << 20
    places: tuple[str, ...] = ()
    """The data centre of the engine and those whose results it takes; none: the views are not for one engine."""


def read_views(text: str, defaults: Defaults, source: str = SOURCE) -> list[work_pb2.View]:
    """The views of the file's text, complete. Raises ConfigError with all mistakes, by their places."""
    message, mistakes = gather(text, propagation_admin_pb2.ListViewsResponse, source=source)
    checker = Checker(text, source, defaults.places)
    checker.check(message)
    unread = [one.path for one in mistakes]
    mistakes += [one for one in checker.mistakes if not _follows(one.path, unread, absent=one.path in checker.absent)]
    if mistakes:
        raise ConfigError(mistakes)
    for view in message.views:
        _complete(view, defaults)
    return list(message.views)


def mistakes_in(text: str, defaults: Defaults) -> tuple[list[work_pb2.View], Sequence[Mistake]]:
    """The views, or none and the mistakes."""
    try:
        return read_views(text, defaults), ()
    except ConfigError as error:
        return [], error.mistakes


def _follows(path: str, unread: Iterable[str], *, absent: bool) -> bool:
    """Whether a mistake at the path may follow from what could not be read: that stands above it, below it, or, where
    nothing is at the path, beside it, under a name that was not meant.
    """
    beside = path.rpartition(".")[0]
    return any(
        _within(path, one) or _within(one, path) or (absent and one.rpartition(".")[0] == beside) for one in unread
    )


def _within(path: str, outer: str) -> bool:
    return not outer or path == outer or path.startswith((f"{outer}.", f"{outer}["))


def _complete(view: work_pb2.View, defaults: Defaults) -> None:
    view.retry.max_attempts = view.retry.max_attempts or defaults.max_attempts
    _default(view.retry.initial_backoff, defaults.initial_backoff_s)
    _default(view.retry.max_backoff, defaults.max_backoff_s)
    _default(view.lease_time, defaults.lease_s)
    _default(view.render.timeout, defaults.render_timeout_s)
    view.render.max_output_bytes = view.render.max_output_bytes or defaults.max_output_bytes
    view.max_dependencies = min(view.max_dependencies or defaults.max_dependencies, defaults.max_dependencies)
    view.max_concurrency = view.max_concurrency or defaults.max_concurrency
    if view.store.namespace:
        view.store.record = view.store.record or "{resource}"
    if view.render.WhichOneof("kind") == "http":
        view.render.http.method = view.render.http.method or "GET"


def _default(duration: Duration, value_s: float) -> None:
    if not duration.seconds and not duration.nanos:
        duration.FromNanoseconds(int(value_s * 1e9))
