"""The command `wellspring`: its groups, loaded when they are used, and how it ends."""

import importlib
import os
import sys
from typing import Any, Final

import click

from tools.cli import failures

_COMMANDS: Final = {
    "up": "tools.cli.up:up",
    "demo": "tools.cli.demo:demo",
    "storage": "tools.cli.storage:storage",
    "session": "tools.cli.session:session",
    "propagation": "tools.cli.propagation:propagation",
    "import": "tools.cli.importing:import_pages",
    "doctor": "tools.cli.doctor:doctor",
    "serve": "tools.cli.serve:serve",
    "purge-relay": "tools.cli.serve:purge_relay",
}


class Root(click.Group):
    """Loads a command when it is named, and turns whatever a command raises into one sentence and a status."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in the order in which one meets them."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name, None when there is none."""
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command. Raises click's own exceptions only."""
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except click.ClickException as error:
            raise self._told(ctx, error) from None
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            raise click.exceptions.Exit(failures.INTERRUPTED) from None
        except Exception as error:
            raise self._told(ctx, failures.failure_of(error)) from None

    @staticmethod
    def _told(ctx: click.Context, error: click.ClickException) -> click.ClickException:
        """The error as the command's caller wants it told."""
        if not ctx.meta.get(failures.JSON_KEY):
            return error
        if not isinstance(error, failures.Failure):
            error = failures.Failure(error.format_message(), error.exit_code)
        error.as_json = True
        return error

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The statuses, after everything else."""
        with formatter.section("Exit status"):
            formatter.write_dl([(str(code), meaning) for code, meaning in failures.MEANINGS.items()])


@click.group(cls=Root, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def cli() -> None:
    """Wellspring: storage, sessions, and pages that stay fresh.

    \b
    Begin with
      wellspring demo --once     see one edit reach every page that depends on it
      wellspring up              start all services on this machine
      wellspring doctor          what is wrong here, and how to mend it
    """


def main() -> None:
    """The program: the command line in, an exit status out."""
    # Python puts the folder of its program first: what lies there is `tools.cli.…`, and nothing else.
    sys.path[:] = [folder for folder in sys.path if folder != os.path.dirname(os.path.abspath(__file__))]
    # `bazel run` changes the folder; the user's names of files are relative to where they stand.
    if folder := os.environ.get("BUILD_WORKING_DIRECTORY"):
        os.chdir(folder)
    cli.main(prog_name="wellspring", args=sys.argv[1:])


if __name__ == "__main__":
    main()
