"""For tests: the command run in this process against a platform that was started for them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from tools.cli.main import cli
from tools.platform import ports, site
from tools.platform.data_directory import DataDirectory
from tools.platform.platform import Platform


@dataclass(frozen=True)
class Shell:
    """Runs commands on the platform of a data directory."""

    data: Path
    platform: Platform | None = None

    def runs(self, *words: str, input: bytes | None = None) -> Result:
        """The outcome, whatever it is."""
        environment = {"WELLSPRING_DATA": str(self.data), "WELLSPRING_ADDRESS": None, "WELLSPRING_TRACE": "1"}
        return CliRunner(env=environment).invoke(cli, words, input=input, prog_name="wellspring")

    def ok(self, *words: str, input: bytes | None = None) -> Result:
        """The outcome of a command that must do well."""
        return self.fails(0, *words, input=input)

    def fails(self, status: int, *words: str, input: bytes | None = None) -> Result:
        """The outcome of a command that must end with a status."""
        result = self.runs(*words, input=input)
        assert result.exit_code == status, f"{words}: {result.exit_code}\n{result.output}"
        return result

    def lines(self, *words: str, input: bytes | None = None) -> list[dict[str, Any]]:
        """The objects that a command answers with."""
        return [json.loads(line) for line in self.ok(*words, "--json", input=input).stdout.splitlines()]

    def json(self, *words: str, input: bytes | None = None) -> dict[str, Any]:
        """The one object that a command answers with."""
        (answer,) = self.lines(*words, input=input)
        return answer


@contextmanager
def platform_shell(data: Path, chosen: site.Site = site.DEFAULT) -> Iterator[Shell]:
    """A platform on free ports, and a shell for it."""
    layout = chosen.layout(data / "data", ports.free_base())
    with DataDirectory(layout.data) as directory:
        directory.describe(layout.ports)
        with Platform(layout) as platform:
            yield Shell(layout.data, platform)
