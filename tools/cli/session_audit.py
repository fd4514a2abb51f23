"""`wellspring session audit`: whether an audit is whole."""

from pathlib import Path
from typing import Any

import click

from services.session.audit.verify import keys_of, verify
from tools.cli.failures import BAD_DATA, Failure
from tools.cli.output import counted
from tools.cli.target import Target, target_options

_FILE = click.Path(path_type=Path, dir_okay=False)
_SHOWN = 20


@click.group()
def audit() -> None:
    """The session service's audit: lines of JSON, each chained to the one before, with signed heads."""


@audit.command("verify")
@click.argument("files", nargs=-1, required=True, type=_FILE)
@click.option("--keys", type=_FILE, help="The key set of the service, as a file; without it the service is asked.")
@click.option("--anchor", "anchors", multiple=True, metavar="NUMBER:HASH", help="A head that was kept elsewhere.")
@target_options
def verify_(to: Target, files: tuple[Path, ...], keys: Path | None, anchors: tuple[str, ...]) -> None:
    """Find out whether an audit is whole: FILES of one chain, the oldest first.

    A file that was cut off at its end is whole in itself: name the newest head that the log has (its message is "audit
    head", with number and hash) to be sure that nothing is missing there.

    \b
    Examples
      wellspring session audit verify audit.000000004711 audit
      wellspring session audit verify audit --keys keys.json --anchor 4711:5f0c…
    """
    known = [_anchor(text) for text in anchors]
    try:
        report = verify(files, keys_of(_key_set(to, keys)), known)
    except OSError as error:
        raise Failure(f"{error.filename}: {error.strerror}", BAD_DATA) from None
    told: dict[str, Any] = {
        "whole": report.whole,
        "first": report.first,
        "last": report.last,
        "heads": report.heads,
        "vouched": report.vouched,
        "lost": report.gaps,
        "problems": report.problems,
    }
    lost = f", {counted(report.gaps, 'event')} could not be written" if report.gaps else ""
    to.out.object(
        told,
        f"entries {report.first:,} to {report.last:,}: {'whole' if report.whole else 'NOT whole'}, "
        f"{counted(report.heads, 'head')}, signed up to {report.vouched:,}{lost}",
    )
    if not report.whole:
        for problem in report.problems[:_SHOWN]:
            to.out.line(f"  {problem}")
        raise Failure(f"{counted(len(report.problems), 'problem')} in the audit", BAD_DATA)


def _key_set(to: Target, keys: Path | None) -> str:
    if keys is None:
        with to.client() as client:
            return str(client.session.key_set())
    text = keys.read_text(encoding="utf-8", errors="replace")
    try:
        keys_of(text)
    except (ValueError, KeyError, TypeError):
        raise Failure(f"--keys: {keys} is no key set (RFC 7517, Ed25519)", BAD_DATA) from None
    return text


def _anchor(text: str) -> tuple[int, str]:
    number, _, digest = text.partition(":")
    if not number.isdigit() or len(digest) != 64:
        raise click.UsageError(f"--anchor: {text!r} is not NUMBER:HASH with 64 hexadecimal digits")
    return int(number), digest
