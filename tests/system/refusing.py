"""What a caller or an operator is told: plain words, and no more; and processes that must refuse to start."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tools.platform.layout import MODULES

CONFIG_STATUS = 78
"""EX_CONFIG of sysexits.h."""
_TIMEOUT_S = 300
# Names of exceptions, of drivers and of source files have no place in what people are told.
_INNER = re.compile(
    r"Traceback|\.py\b|\b[A-Z]\w*(?:Error|Exception)\b|errno|rocks|IO error|aiohttp|grpc_core|asyncio"
    r"|0x[0-9a-f]{8}|<class|<object",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Refusal:
    """How a process ended that could not start: its status, and what it said in plain words (not its log's lines)."""

    status: int
    words: str


def plain(text: str) -> str:
    """The text itself, having seen that it tells nothing of the inside."""
    assert text.strip(), "a failure without a word"
    found = _INNER.search(text)
    assert found is None, f"{found.group() if found else ''!r} in what the caller is told: {text}"
    return text


def command(service: str, config_file: Path, *more: str) -> list[str]:
    """The command line of a service's process."""
    return [sys.executable, "-P", "-m", MODULES[service], "--config", str(config_file), *more]


def environment() -> dict[str, str]:
    """The environment in which a child finds the modules that this process finds."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path if path)}


def refusal(
    service: str, config: Mapping[str, Any] | str | bytes, folder: Path, *more: str, before: Sequence[str] = ()
) -> Refusal:
    """Starts a service that cannot start and returns how it ended. `config` is the file, or what the file says;
    `more` are further arguments, `before` stands before the command. The words are seen to be plain."""
    file = folder / "bad.yaml"
    given = config if isinstance(config, str | bytes) else yaml.safe_dump(config)
    file.write_bytes(given.encode() if isinstance(given, str) else given)
    ended = subprocess.run(
        [*before, *command(service, file, *more)],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    assert ended.stdout == "", "a process that did not start said that it was ready"
    assert "Traceback" not in ended.stderr
    words = "\n".join(line for line in ended.stderr.splitlines() if not line.startswith("{"))
    return Refusal(ended.returncode, plain(words))


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with what it holds."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
