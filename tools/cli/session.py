"""`wellspring session`: logins made, checked, listed and ended. A token is read from a file or standard input."""

import datetime
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from tools.cli.failures import Failure
from tools.cli.output import counted, iso, textual
from tools.cli.session_audit import audit
from tools.cli.session_fence import fence, unfence
from tools.cli.session_keys import keys
from tools.cli.session_migrate import migrate
from tools.cli.target import Target, target_options
from tools.cli.values import duration, utf8
from wellspring.session.v1 import session_pb2 as pb
from wellspring_client.session import Token

_LONGEST_TOKEN: Final = 4096


@click.group()
def session() -> None:
    """Logins: create, validate, list, revoke; the service's keys, data centres and audit.

    Tokens are secrets: they are read from a file or from standard input, never from the command line, and are written
    where you say.
    """


session.add_command(audit)
session.add_command(keys)
session.add_command(migrate)
session.add_command(fence)
session.add_command(unfence)


def _token_option(name: str, text: str) -> Callable[[Any], Any]:
    kind = click.Path(path_type=Path, dir_okay=False, allow_dash=True)
    return click.option(f"--{name}", name.replace("-", "_"), type=kind, help=text)


def _realm_option(command: Any) -> Any:
    return click.option("--realm", default="web", show_default=True, help="The realm of the session.")(command)


@session.command()
@click.argument("subject", required=False, default="", callback=utf8)
@_realm_option
@click.option("--level", type=click.IntRange(1, 3), default=1, show_default=True, help="How surely it is known who.")
@click.option("--method", "methods", multiple=True, help='How it was known, such as "pwd" or "otp" (RFC 8176).')
@click.option("--set", "entries", multiple=True, metavar="KEY=VALUE", callback=utf8, help="Sealed data of the session.")
@_token_option("token-file", "Write the token into this new file, readable for you alone.")
@click.option("--show-token", is_flag=True, help="Print the token.")
@target_options
def create(
    to: Target,
    subject: str,
    realm: str,
    level: int,
    methods: tuple[str, ...],
    entries: tuple[str, ...],
    token_file: Path | None,
    show_token: bool,
) -> None:
    """Log SUBJECT in (nobody: an anonymous session).

    \b
    Examples
      wellspring session create ann --token-file ann.token
      wellspring session create ann --level 2 --method pwd --method otp --show-token
      wellspring session create --set cart=3 --token-file visitor.token
    """
    if token_file is None and not show_token:
        raise click.UsageError("say where the token goes: --token-file FILE, or --show-token")
    file = _new_file(token_file) if token_file is not None else None
    try:
        with to.client() as client:
            minted = client.session.realm(realm).create(subject, level=level, methods=methods, data=_data(entries))
    except BaseException:
        if token_file is not None and file is not None:
            os.close(file)
            token_file.unlink(missing_ok=True)
        raise
    if file is not None:
        with open(file, "w", encoding="utf-8") as writer:
            writer.write(minted.token.value + "\n")
    told = _told(minted.session)
    if show_token:
        told["token"] = minted.token.value
    to.out.object(told)


@session.command()
@_realm_option
@_token_option("token-file", "Read the token from this file; without it, or as -, from standard input.")
@click.option("--no-touch", is_flag=True, help="Do not count it as activity.")
@click.option("--key", "keys", multiple=True, help="Data to show; * for all.")
@target_options
def validate(to: Target, realm: str, token_file: Path | None, no_touch: bool, keys: tuple[str, ...]) -> None:
    """Whose session a token is. Status 1 when it is nobody's (any more).

    \b
    Examples
      wellspring session validate --token-file ann.token
      wellspring session validate --key '*' < ann.token
    """
    token = _read_token(token_file)
    with to.client() as client:
        answer = client.session.realm(realm).validate(token, touch=not no_touch, data_keys=keys)
    told = _told(answer.session)
    if answer.data:
        told["data"] = {key: textual("value", value.value) for key, value in sorted(answer.data.items())}
    to.out.object(told | {"rotate_soon": answer.rotate_hint})


@session.command("list")
@click.argument("subject", callback=utf8)
@_realm_option
@target_options
def list_(to: Target, subject: str, realm: str) -> None:
    """List the live sessions of a subject.

    \b
    Example
      wellspring session list ann
    """
    with to.client() as client:
        rows = (
            (_told(one), (one.handle, str(one.assurance.level), iso(one.create_time), iso(one.last_active_time)))
            for one in client.session.realm(realm).list_by_subject(subject)
        )
        to.out.table(["handle", ">level", "created", "last active"], rows, f'"{subject}" has no session')


@session.command()
@_realm_option
@_token_option("token-file", "End the session of the token in this file (- for standard input).")
@click.option("--handle", help="End the session with this public handle.")
@_token_option("others-of", "End all sessions of the same subject but that of the token in this file.")
@click.option("--subject", callback=utf8, help="End all sessions of this subject.")
@click.option("--whole-realm", is_flag=True, help="End every session of the realm.")
@click.option(
    "--readmit-over",
    callback=duration,
    metavar="TIME",
    help="With --whole-realm: let logins in again over this time (30m), a growing share; 0s: all at once.",
)
@click.option("--reason", default="", callback=utf8, help="For the audit.")
@target_options
def revoke(
    to: Target,
    realm: str,
    token_file: Path | None,
    handle: str | None,
    others_of: Path | None,
    subject: str | None,
    whole_realm: bool,
    readmit_over: datetime.timedelta | None,
    reason: str,
) -> None:
    """End sessions: exactly one of --token-file, --handle, --others-of, --subject, --whole-realm.

    \b
    Examples
      wellspring session revoke --token-file ann.token
      wellspring session revoke --subject ann --reason "device lost"
      wellspring session revoke --whole-realm --readmit-over 30m
    """
    given = [token_file is not None, handle is not None, others_of is not None, subject is not None, whole_realm]
    if sum(given) != 1:
        raise click.UsageError("give exactly one of --token-file, --handle, --others-of, --subject and --whole-realm")
    if readmit_over is not None and not whole_realm:
        raise click.UsageError("--readmit-over goes with --whole-realm")
    token = _read_token(token_file) if token_file is not None else None
    others = _read_token(others_of) if others_of is not None else None
    with to.client() as client:
        if readmit_over is not None:
            client.session.set_readmission_window(realm, readmit_over)
        answer = client.session.realm(realm).revoke(
            token, handle=handle, others_of=others, subject=subject, whole_realm=whole_realm, reason=reason
        )
    receipts = [
        {
            "datacentre": one.datacentre,
            "state": pb.RevokeResponse.Enforcement.State.Name(one.state).removeprefix("STATE_").lower(),
            "enforced_by": iso(one.enforced_by),
        }
        for one in answer.receipts
    ]
    places = ", ".join(f"{one['datacentre'] or 'here'}: {one['state']}" for one in receipts)
    what = "every session of the realm" if whole_realm else counted(answer.revoked, "session")
    to.out.object({"revoked": answer.revoked, "receipts": receipts}, f"ended {what} ({places})")


def _data(given: tuple[str, ...]) -> dict[str, bytes]:
    data = {}
    for one in given:
        key, equals, value = one.partition("=")
        if not key or not equals:
            raise click.UsageError(f"--set: {one!r} is not KEY=VALUE")
        data[key] = value.encode()
    return data


def _new_file(path: Path) -> int:
    """Made before the login: a token that cannot be written down would be lost."""
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise Failure(f"--token-file: {path} is there already; name a new file") from None


def _read_token(path: Path | None) -> Token:
    if path is None or str(path) == "-":
        raw = sys.stdin.buffer.read(_LONGEST_TOKEN + 1)
    else:
        with path.open("rb") as file:
            raw = file.read(_LONGEST_TOKEN + 1)
    try:
        text = raw.decode("ascii").strip()
    except UnicodeDecodeError:
        text = ""
    if not text or len(raw) > _LONGEST_TOKEN:
        raise click.UsageError("what was given as a token is empty, too long or not text: no token")
    return Token(text)


def _told(one: pb.Session) -> dict[str, Any]:
    told: dict[str, Any] = {"handle": one.handle, "realm": one.realm, "subject": one.subject}
    told |= {"anonymous": one.anonymous, "level": one.assurance.level, "methods": list(one.assurance.methods)}
    for name in ("create_time", "last_active_time", "idle_expire_time", "absolute_expire_time"):
        told[name] = iso(getattr(one, name))
    return told
