"""`wellspring session audit`: whether an audit is whole."""

import asyncio
from pathlib import Path
from typing import Any

import click

from libs.errors.errors import Unavailable, WellspringError
from libs.kafka.options import Options
from services.session.audit.topic import entries
from services.session.audit.verify import Chains, Report, keys_of, verify
from tools.cli.failures import BAD_DATA, UNAVAILABLE, Failure
from tools.cli.output import counted
from tools.cli.target import Target, target_options

_FILE = click.Path(path_type=Path, dir_okay=False)
_SHOWN = 20


@click.group()
def audit() -> None:
    """The session service's audit: lines of JSON, each chained to the one before, with signed heads."""


@audit.command("verify")
@click.argument("files", nargs=-1, type=_FILE)
@click.option("--keys", type=_FILE, help="The key set of the service, as a file; without it the service is asked.")
@click.option("--anchor", "anchors", multiple=True, metavar="NUMBER:HASH", help="A head that was kept elsewhere.")
@click.option("--kafka", metavar="HOST:PORT,…", help="Look at the topic of these brokers instead of files.")
@click.option("--topic", default="wellspring.session-audit", show_default=True, help="The topic's whole name.")
@click.option("--kafka-user", default="", metavar="NAME", help="Of SASL SCRAM-SHA-512; needs --kafka-password-file.")
@click.option("--kafka-password-file", type=_FILE, help="A file that holds the password.")
@click.option("--kafka-ca", type=_FILE, help="Who signs the brokers' certificates: TLS with them.")
@target_options
def verify_(
    to: Target,
    files: tuple[Path, ...],
    keys: Path | None,
    anchors: tuple[str, ...],
    kafka: str | None,
    topic: str,
    kafka_user: str,
    kafka_password_file: Path | None,
    kafka_ca: Path | None,
) -> None:
    """Find out whether an audit is whole: FILES of one chain, the oldest first, or with --kafka all chains of a topic.

    A file that was cut off at its end is whole in itself: name the newest head that the log has (its message is "audit
    head", with number and hash) to be sure that nothing is missing there. In a topic entries may come twice.

    \b
    Examples
      wellspring session audit verify audit.000000004711 audit
      wellspring session audit verify audit --keys keys.json --anchor 4711:5f0c…
      wellspring session audit verify --kafka kafka-1:9092,kafka-2:9092
    """
    if bool(files) == bool(kafka):
        raise click.UsageError("FILES or --kafka are expected, and not both")
    known = [_anchor(text) for text in anchors]
    try:
        key_set = keys_of(_key_set(to, keys))
        reports, missing = {} if kafka else {"": verify(files, key_set, known)}, list[str]()
    except OSError as error:
        raise Failure(f"{error.filename}: {error.strerror}", BAD_DATA) from None
    if kafka:
        options = _options(kafka, kafka_user, kafka_password_file, kafka_ca)
        chains = asyncio.run(_read(options, topic, Chains(key_set, known)))
        reports, missing = chains.reports, chains.missing
    for name, report in reports.items():
        _tell(to, name, report)
    problems = sum(len(report.problems) for report in reports.values()) + len(missing)
    for problem in missing:
        to.out.line(f"  {problem}")
    if kafka and not reports:
        raise Failure(f"the topic {topic} is empty", BAD_DATA)
    if problems:
        raise Failure(f"{counted(problems, 'problem')} in the audit", BAD_DATA)


def _tell(to: Target, name: str, report: Report) -> None:
    told: dict[str, Any] = {
        "whole": report.whole,
        "first": report.first,
        "last": report.last,
        "heads": report.heads,
        "vouched": report.vouched,
        "lost": report.gaps,
        "problems": report.problems,
    }
    if name:
        told |= {"chain": name, "repeats": report.repeats}
    lost = f", {counted(report.gaps, 'event')} could not be written" if report.gaps else ""
    to.out.object(
        told,
        f"{name + ': ' if name else ''}entries {report.first:,} to {report.last:,}: "
        f"{'whole' if report.whole else 'NOT whole'}, "
        f"{counted(report.heads, 'head')}, signed up to {report.vouched:,}{lost}",
    )
    for problem in report.problems[:_SHOWN]:
        to.out.line(f"  {problem}")


async def _read(options: Options, topic: str, chains: Chains) -> Chains:
    try:
        async for entry in entries(options, topic):
            chains.line(entry.chain, entry.line, entry.where)
    except Unavailable as error:
        raise Failure(error.message, UNAVAILABLE) from None
    except WellspringError as error:
        raise Failure(error.message, BAD_DATA) from None
    return chains


def _options(servers: str, user: str, password_file: Path | None, ca: Path | None) -> Options:
    if bool(user) != bool(password_file):
        raise click.UsageError("--kafka-user and --kafka-password-file belong together")
    password = ""
    if password_file is not None:
        try:
            password = password_file.read_text(encoding="utf-8").strip()
        except (OSError, ValueError):
            raise Failure(f"--kafka-password-file: {password_file} cannot be read", BAD_DATA) from None
    return Options(
        bootstrap=tuple(servers.split(",")),
        client_id="wellspring-audit-verify",
        username=user,
        password=password,
        tls=ca is not None,
        ca_file=str(ca or ""),
    )


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
