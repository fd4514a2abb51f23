"""The receiver of CloudEvents on its sockets, as the configuration has it."""

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from aiohttp import web

from libs.config.mistakes import ConfigError, Mistake
from services.propagation.kafka.receiving import Messages, Receiver
from wellspring.config.v1 import propagation_pb2

_KEY = "events.http"
_SHORTEST, _LONGEST = 32, 512
_IDLE_S = 75.0
_DRAIN_S = 10.0


class Listening:
    """A receiver that takes requests. To be closed."""

    def __init__(self, receiver: Receiver, runner: web.AppRunner) -> None:
        self.receiver = receiver
        self._runner = runner

    @classmethod
    async def open(cls, config: propagation_pb2.EventTopics, messages: Messages) -> "Listening":
        """Listens. Raises ConfigError for what cannot be."""
        http = config.http
        for at, topic in enumerate(http.topics):
            if topic not in config.topics:
                allowed = f"they are: {', '.join(config.topics)}"
                raise _wrong(f"{_KEY}.topics[{at}]", f"{topic} is none of events.topics", allowed)
        credentials = _credentials(http.credential_file) if http.credential_file else []
        receiver = Receiver(
            messages, http.topics, credentials, max_bytes=http.max_bytes, max_in_flight=http.max_in_flight
        )
        runner = web.AppRunner(receiver.app(), access_log=None, keepalive_timeout=_IDLE_S, shutdown_timeout=_DRAIN_S)
        await runner.setup()
        for at, address in enumerate(http.listen):
            host, _, port = address.rpartition(":")
            try:
                await web.TCPSite(runner, host.strip("[]"), int(port)).start()
            except (OSError, OverflowError) as error:
                await runner.cleanup()
                number = getattr(error, "errno", 0) or 0
                why = "is in use" if number == errno.EADDRINUSE else f"cannot be listened on: {os.strerror(number)}"
                raise _wrong(f"{_KEY}.listen[{at}]", f"{address} {why}", "a free port of loopback") from None
        return cls(receiver, runner)

    async def close(self) -> None:
        """What has begun has some seconds to end."""
        await self._runner.cleanup()


def _credentials(name: str) -> Sequence[str]:
    key = f"{_KEY}.credential_file"
    path = Path(name)
    try:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise _wrong(key, f"{name} may be read by others", "chmod 600 (or 400)")
        lines = [line for line in path.read_text(encoding="ascii").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError):
        raise _wrong(key, f"{name} cannot be read", "the name of a text file in ASCII") from None
    if not lines or not all(
        _SHORTEST <= len(one) <= _LONGEST and one.isprintable() and " " not in one for one in lines
    ):
        allowed = f"one and more lines of {_SHORTEST} to {_LONGEST} printable characters without blanks"
        raise _wrong(key, f"{name} holds something else than credentials", allowed)
    return lines


def _wrong(key: str, what: str, allowed: str) -> ConfigError:
    return ConfigError([Mistake("the configuration", 0, 0, key, what, allowed)])
