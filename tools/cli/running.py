"""A platform under this process: started with its news on the terminal, ended by Ctrl-C or SIGTERM."""

import json
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

import click

from tools.cli import log_lines
from tools.cli.output import Output
from tools.platform.data_directory import DataDirectory
from tools.platform.layout import Layout
from tools.platform.log_follower import LogFollower
from tools.platform.platform import Event, Platform

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class News:
    """Prints what happens to the processes, and their logs, as whole lines."""

    def __init__(self, out: Output, least: str) -> None:
        """`least` is the least level of a log line that is shown; above "INFO" what goes well is not told either."""
        self._out = out
        self._least = least
        self._lock = threading.Lock()
        self._told = ("ready", "died", "stopped") if least == "INFO" else ("died",)

    def event(self, event: Event) -> None:
        """Hears of an event of the platform."""
        if event.what not in self._told:
            return
        if self._out.as_json:
            self._say_to_machine(event)
        else:
            text = f"{event.what} {event.detail}".rstrip()
            self._print(log_lines.event(event.process, text, bad=event.what == "died"))

    def log(self, process: str, line: str) -> None:
        """Hears of a line of a log."""
        if not self._out.as_json and (text := log_lines.readable(process, line, self._least)):
            self._print(text)

    def _say_to_machine(self, event: Event) -> None:
        told = {"event": event.what, "process": event.process, "detail": event.detail}
        with self._lock:
            click.echo(json.dumps(told, ensure_ascii=False), err=True)

    def _print(self, text: str) -> None:
        with self._lock:
            click.echo(text, err=True)


@contextmanager
def running(data: Path, layout: Layout, out: Output, least: str) -> Iterator[Platform]:
    """The platform, healthy, in a data directory that is this process's alone; drained at the end.

    Raises PlatformError, DataDirectoryError. SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt in the main thread; a
    second one kills what still drains.
    """
    news = News(out, least)
    with DataDirectory(data) as directory:
        platform = Platform(layout, tell=news.event)
        logs = {name: layout.log_directory(name) / "server.log" for name in layout.processes}
        follower = LogFollower(logs, news.log)
        directory.describe(layout.ports)
        with _signals(platform):
            follower.start()
            try:
                platform.start()
                yield platform
            finally:
                platform.stop()
                follower.stop()


@contextmanager
def _signals(platform: Platform) -> Iterator[None]:
    seen = 0

    def hear(number: int, frame: FrameType | None) -> None:
        nonlocal seen
        seen += 1
        if seen == 1:
            raise KeyboardInterrupt
        print("killing what still drains", file=sys.stderr)
        threading.Thread(target=platform.kill_all, daemon=True).start()

    before = {number: signal.signal(number, hear) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
