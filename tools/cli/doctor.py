"""`wellspring doctor`: what is wrong here, and how to mend it."""

from pathlib import Path
from typing import Final

import click

from tools.cli import doctor_checks
from tools.cli.failures import FAILED, Failure
from tools.cli.output import Output
from tools.cli.target import data_option, find, json_option
from tools.platform.data_directory import DataDirectoryError

_MARKS: Final = {
    doctor_checks.GOOD: click.style("✓", fg="green"),
    doctor_checks.WARNING: click.style("!", fg="yellow"),
    doctor_checks.BAD: click.style("✗", fg="red"),
}


@click.command()
@json_option
@data_option
@click.option(
    "--address", "given", multiple=True, metavar="SERVICE=HOST:PORT", help="Where a service is, if elsewhere."
)
def doctor(out: Output, data: Path, given: tuple[str, ...]) -> None:
    """Look at everything that Wellspring needs here; say what is wrong, and how to mend it.

    Python and its packages, disk, clock, the data directory, ports, and each service's health. Status 1 when something
    is wrong; a warning (!) is not.

    \b
    Examples
      wellspring doctor
      wellspring doctor --data /srv/wellspring --json
    """
    try:
        addresses = find(data, given)
    except DataDirectoryError:
        # A finding below, not the end of the search.
        addresses = find(Path("/nonexistent"), given)
    bad = 0
    for finding in doctor_checks.all_findings(data, addresses, local=not given):
        bad += finding.level == doctor_checks.BAD
        told = {"check": finding.check, "level": finding.level, "what": finding.what, "mend": finding.mend}
        text = f"{_MARKS[finding.level]} {finding.check:<11} {finding.what}"
        out.object(told, f"{text}\n  {'':<11} → {finding.mend}" if finding.mend else text)
    if bad:
        raise Failure(f"{bad} finding{'s' if bad > 1 else ''} to mend", FAILED)
