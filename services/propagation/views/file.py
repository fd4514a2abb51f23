"""The views file of a deployment: put at the start, and again when it changes, without a restart."""

import asyncio
import logging
from pathlib import Path

from libs.config.config import ConfigError
from libs.errors.errors import WellspringError
from libs.telemetry.logs import fields
from services.propagation.domain.engine import Engine
from services.propagation.views.catalogue import Catalogue

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 1.0


class ViewsFile:
    """One file. A change with mistakes in it is logged, line by line, and the views stay as they were."""

    def __init__(self, path: str, catalogue: Catalogue, engine: Engine) -> None:
        self._path = Path(path)
        self._catalogue = catalogue
        self._engine = engine
        self._seen: tuple[int, int] = (0, 0)

    async def read_first(self) -> None:
        """Puts the file's views when they differ from those in force. Raises ConfigError, OSError,
        UnicodeDecodeError.
        """
        stat = self._path.stat()
        self._seen = (stat.st_mtime_ns, stat.st_size)
        text = self._path.read_text("utf-8")
        if text != self._catalogue.text:
            await self._catalogue.put(self._engine, text, source=str(self._path))

    async def follow(self) -> None:
        """Looks at the file for ever."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            try:
                stat = self._path.stat()
                if (stat.st_mtime_ns, stat.st_size) != self._seen:
                    await self.read_first()
                    log.info("views were read again", extra=fields(revision=self._catalogue.revision))
            except ConfigError as error:
                for mistake in error.mistakes:
                    log.error("the views file has a mistake; the views stay", extra=fields(mistake=str(mistake)))
            except UnicodeDecodeError:
                log.error("the views file is not UTF-8; the views stay", extra=fields(path=str(self._path)))
            except OSError as error:
                log.error("the views file cannot be read; the views stay", extra=fields(error=error.strerror or ""))
                self._seen = (0, 0)
            except WellspringError as error:
                log.warning("the views cannot be put now", extra=fields(reason=error.reason))
                self._seen = (0, 0)
