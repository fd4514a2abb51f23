"""Typed configuration: a YAML file becomes a protobuf message, checked and complete, or an error that names every
mistake.

The message is the documentation: ``protos/wellspring/config/v1`` says of each field what it means, its unit, its
default and its limits (``rule.proto``). Defaults are applied here and nowhere else.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from google.protobuf.message import Message
from yaml.nodes import MappingNode

from libs.config import overrides as outside
from libs.config import tree
from libs.config.build import Builder
from libs.config.mistakes import ConfigError, Mistake
from libs.config.show import to_yaml

__all__ = ["ConfigError", "Mistake", "gather", "load", "parse", "to_yaml"]

_Message = TypeVar("_Message", bound=Message)


def load(
    path: str | Path | None,
    message_type: type[_Message],
    *,
    env_prefix: str = "WELLSPRING",
    overrides: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> _Message:
    """The configuration of ``path`` (None: an empty file), changed by environment variables ``<env_prefix>__A__B`` and
    by ``overrides`` ("a.b" -> text), as a complete ``message_type``. Raises ConfigError listing all mistakes.
    """
    text, source = b"", "configuration"
    if path is not None:
        source = str(path)
        try:
            with open(path, "rb") as file:
                text = file.read(tree.MAX_BYTES + 1)
        except OSError as error:
            what = f"cannot be read: {os.strerror(error.errno) if error.errno else 'error of the operating system'}"
            raise ConfigError([Mistake(source, 0, 0, "", what, "a readable YAML file is expected")]) from None
    return parse(
        text,
        message_type,
        source=source,
        env_prefix=env_prefix,
        environ=os.environ if environ is None else environ,
        overrides=overrides,
    )


def parse(
    text: str | bytes,
    message_type: type[_Message],
    *,
    source: str,
    env_prefix: str = "",
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, str] | None = None,
) -> _Message:
    """The configuration that is the YAML ``text``; ``source`` names it in mistakes. Otherwise as :func:`load`."""
    message, mistakes = gather(
        text, message_type, source=source, env_prefix=env_prefix, environ=environ, overrides=overrides
    )
    if mistakes:
        raise ConfigError(mistakes)
    return message


def gather(
    text: str | bytes,
    message_type: type[_Message],
    *,
    source: str,
    env_prefix: str = "",
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, str] | None = None,
) -> tuple[_Message, list[Mistake]]:
    """As :func:`parse`, but what has mistakes is left out of the message, and they are answered beside it: for whoever
    looks for more of them. Raises ConfigError for a text that is no YAML.
    """
    root = tree.read(text, source)
    if tree.is_null(root):
        root = tree.empty(source)
    message = message_type()
    builder = Builder()
    if isinstance(root, MappingNode):
        builder.mistakes += _lay_over(root, message, env_prefix, environ or {}, overrides or {})
    builder.fill(message, root, "")
    return message, builder.mistakes


def _lay_over(
    root: MappingNode, message: Message, env_prefix: str, environ: Mapping[str, str], arguments: Mapping[str, str]
) -> list[Mistake]:
    return [
        *outside.from_environment(root, message, env_prefix, environ),
        *outside.from_arguments(root, message, arguments),
    ]
