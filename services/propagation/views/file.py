"""A file of a deployment (views, rules): put at the start, and again when it changes, without a restart."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from libs.config.config import ConfigError
from libs.errors.errors import WellspringError
from libs.telemetry.logs import fields

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 1.0


class FollowedFile:
    """One file with `what` in it. A change with mistakes in it is logged, line by line, and all stays as it was.

    `put(text, source)` takes its text, and awaits that this is durable; it does nothing when it has the text already.
    """

    def __init__(self, path: str, what: str, put: Callable[[str, str], Awaitable[None]]) -> None:
        self._path = Path(path)
        self.what = what
        self._put = put
        self._seen: tuple[int, int] = (0, 0)

    async def read_first(self) -> None:
        """Puts what is in the file. Raises ConfigError, OSError, UnicodeDecodeError."""
        stat = self._path.stat()
        self._seen = (stat.st_mtime_ns, stat.st_size)
        await self._put(self._path.read_text("utf-8"), str(self._path))

    async def follow(self) -> None:
        """Looks at the file for ever."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            try:
                stat = self._path.stat()
                if (stat.st_mtime_ns, stat.st_size) != self._seen:
                    await self.read_first()
                    log.info("a file was read again", extra=self._about())
            except ConfigError as error:
                for mistake in error.mistakes:
                    log.error("a file has a mistake; all stays as it was", extra=self._about(mistake=str(mistake)))
            except UnicodeDecodeError:
                log.error("a file is not UTF-8; all stays as it was", extra=self._about())
            except OSError as error:
                log.error("a file cannot be read; all stays as it was", extra=self._about(error=error.strerror or ""))
                self._seen = (0, 0)
            except WellspringError as error:
                log.warning("a file cannot be taken now", extra=self._about(reason=error.reason))
                self._seen = (0, 0)

    def _about(self, **more: str) -> dict[str, object]:
        return fields(path=str(self._path), what=self.what, **more)
