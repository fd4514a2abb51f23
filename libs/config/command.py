"""The command line that every server has: ``--config``, ``--set``, ``--print-config``, ``--check-config``; and its
migrations' as well."""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from google.protobuf.message import Message

from libs.config.config import load, to_yaml
from libs.config.mistakes import ConfigError
from libs.errors.errors import WellspringError

EX_CONFIG = 78
"""Exit status of a process that cannot start as configured (sysexits.h)."""

_Message = TypeVar("_Message", bound=Message)


def from_command_line(
    service: str,
    message_type: type[_Message],
    argv: Sequence[str] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
) -> _Message:
    """The configuration of the server ``service`` ("storage") as its command line and environment say.

    Ends the process: status 0 after ``--print-config`` and ``--check-config``, 78 with all mistakes on standard error,
    2 for a wrong command line.
    """
    prefix = "WELLSPRING_" + service.upper().replace("-", "_")
    parser = argparse.ArgumentParser(
        prog=f"wellspring-{service}",
        description=f"The {service} server of Wellspring. Each key can also come from the environment:"
        f" {prefix}__SERVER__LISTEN is server.listen.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config", metavar="FILE", help="the configuration, YAML; without it: defaults and what follows"
    )
    parser.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], help="one key, such as server.workers=2; repeatable"
    )
    parser.add_argument(
        "--print-config", action="store_true", help="print the configuration in effect, secrets hidden, and end"
    )
    parser.add_argument("--check-config", action="store_true", help="say whether the configuration is good, and end")
    arguments = parser.parse_args(argv)
    given = {}
    for text in arguments.set:
        key, equals, value = text.partition("=")
        if not equals:
            parser.error(f"--set {text}: KEY=VALUE is expected, such as server.workers=2")
        given[key] = value
    try:
        message = load(arguments.config, message_type, env_prefix=prefix, overrides=given, environ=environ)
    except ConfigError as error:
        sys.stderr.write(error.message + "\n")
        sys.exit(EX_CONFIG)
    if arguments.print_config:
        sys.stdout.write(to_yaml(message))
        sys.exit(0)
    if arguments.check_config:
        sys.stdout.write(f"{arguments.config or 'the configuration'} is good\n")
        sys.exit(0)
    return message


def run_migrations(
    service: str, message_type: type[_Message], migrate: Callable[[_Message], Awaitable[list[str]]]
) -> int:
    """Has ``migrate`` apply what the backend of ``service`` is missing, configured as the server is, and says what that
    was; the exit status."""
    config = from_command_line(service, message_type)

    async def migrated() -> list[str]:
        return await migrate(config)

    try:
        done = asyncio.run(migrated())
    except ConfigError as error:
        sys.stderr.write(error.message + "\n")
        return EX_CONFIG
    except WellspringError as error:
        sys.stderr.write(error.message + "\n")
        return 1
    sys.stdout.write("".join(f"applied {name}\n" for name in done) or "nothing is missing\n")
    return 0
